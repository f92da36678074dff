"""Normals and areas of triangle meshes agree with worked examples and slow loops."""

import torch

from lifemask.geometry.meshes import triangle_areas, vertex_normals


def random_mesh() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(2, 12, 3, generator=generator)
    triangles = torch.stack([torch.randperm(12, generator=generator)[:3] for _ in range(30)])
    return vertices, triangles


def test_normals_match_a_loop_over_triangles() -> None:
    vertices, triangles = random_mesh()
    expected = torch.zeros_like(vertices)
    for a, b, c in triangles.tolist():
        corner = vertices[:, a]
        scaled = torch.linalg.cross(vertices[:, b] - corner, vertices[:, c] - corner)
        for vertex in (a, b, c):
            expected[:, vertex] += scaled
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(vertex_normals(vertices, triangles), expected)


def test_counter_clockwise_triangles_point_towards_the_viewer() -> None:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3))


def test_normals_of_lonely_and_degenerate_vertices_are_zero() -> None:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    assert vertex_normals(vertices, torch.tensor([[0, 1, 2]])).abs().max() == 0


def test_normals_turn_with_the_mesh_and_ignore_its_size() -> None:
    vertices, triangles = random_mesh()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    rotation = rotation * torch.linalg.det(rotation)
    turned = vertex_normals(vertices @ rotation.T * 1e-3 + 7, triangles)
    expected = vertex_normals(vertices, triangles) @ rotation.T
    torch.testing.assert_close(turned, expected, atol=1e-2, rtol=0)


def test_area_of_half_a_square() -> None:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    torch.testing.assert_close(
        triangle_areas(vertices, torch.tensor([[0, 1, 2], [0, 0, 1]])), torch.tensor([6.0, 0.0])
    )


def test_gradients_of_normals_are_right() -> None:
    vertices, triangles = random_mesh()
    double = vertices[0].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, triangles), (double,))
