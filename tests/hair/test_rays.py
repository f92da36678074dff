"""Rays and places on them are inverse, and unwrapping finds where rays leave a mesh."""

import torch

from lifemask.geometry.meshes import Mesh, split_quads
from lifemask.hair.rays import MIDDLE, grid_rays, place, unwrapped


def test_place_is_the_inverse_of_rays() -> None:
    origin, direction = grid_rays(24, 32)
    points = origin + 0.13 * direction
    v, u = torch.meshgrid(
        (torch.arange(24) + 0.5) / 24, (torch.arange(32) + 0.5) / 32, indexing="ij"
    )
    expected = torch.stack([u, v, torch.full_like(u, 0.13)], dim=-1)
    torch.testing.assert_close(place(points), expected, atol=1e-5, rtol=0)


def test_the_face_is_in_the_middle_and_the_subjects_left_on_the_right() -> None:
    middle = torch.tensor(MIDDLE)
    front, left, top = place(middle + 0.1 * torch.eye(3)[[2, 0, 1]])
    assert abs(float(front[0]) - 0.5) < 1e-6
    assert abs(float(left[0]) - 0.75) < 1e-6
    assert abs(float(top[1])) < 1e-6


def test_rays_leave_a_sphere_at_its_radius_also_at_the_back() -> None:
    rows, columns = 40, 60
    angle = torch.linspace(0, 2 * torch.pi, columns + 1)[:-1]
    height = torch.linspace(1.45, 0.05, rows)
    down, around = torch.meshgrid(height, angle, indexing="ij")
    sphere = torch.stack(
        [down.cos() * around.sin(), down.sin(), down.cos() * around.cos()], dim=-1
    ).view(-1, 3)
    i, j = torch.meshgrid(torch.arange(rows - 1), torch.arange(columns), indexing="ij")
    first, beside = i * columns + j, i * columns + (j + 1) % columns
    quads = torch.stack([first, first + columns, beside + columns, beside], dim=-1).view(-1, 4)
    mesh = Mesh(torch.tensor(MIDDLE) + 0.1 * sphere, split_quads(quads))
    radius, (height_of,) = unwrapped(mesh, mesh.vertices[:, 1:2], 50, 70)
    inside = radius[4:18]
    assert (inside > 0).all()
    torch.testing.assert_close(inside, torch.full_like(inside, 0.1), atol=3e-4, rtol=0)
    assert (height_of[4] > height_of[17]).all()
