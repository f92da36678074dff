"""Refined meshes have no gaps, keep their old points and get rounder."""

import torch

from lifemask.geometry.meshes import triangle_areas, vertex_normals
from lifemask.geometry.refinement import edges_inside, split_edges


def grid(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points of a flat square and its triangles."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    points = torch.stack([x, y, 0 * x], -1).reshape(-1, 3)
    corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].flatten()
    first = torch.stack([corner, corner + 1, corner + side], -1)
    second = torch.stack([corner + 1, corner + side + 1, corner + side], -1)
    return points, torch.cat([first, second])


def test_a_part_that_is_split_leaves_no_gap_and_no_overlap() -> None:
    """All triangles look up and their area is that of the square; each inner edge has two sides."""
    points, triangles = grid(7)
    chosen = torch.rand(49, generator=torch.Generator().manual_seed(0)) > 0.4
    finer = split_edges(triangles, edges_inside(triangles, chosen), 49)
    fine = finer.apply(points)
    assert len(finer.triangles) > len(triangles)
    torch.testing.assert_close(triangle_areas(fine, finer.triangles).sum(), torch.tensor(1.0))
    assert (vertex_normals(fine, finer.triangles)[:, 2] > 0.99).all()
    sides = torch.cat(
        [finer.triangles[:, [0, 1]], finer.triangles[:, [1, 2]], finer.triangles[:, [2, 0]]]
    )
    assert len(sides.unique(dim=0)) == len(sides), "no side is used twice in one direction"
    alone = {tuple(side) for side in sides.tolist()} - {
        tuple(side[::-1]) for side in sides.tolist()
    }
    on_border = ((fine[:, :2] == 0) | (fine[:, :2] == 1)).any(-1)
    assert all(on_border[a] and on_border[b] for a, b in alone)


def test_all_edges_make_four_triangles_of_each() -> None:
    points, triangles = grid(3)
    finer = split_edges(triangles, torch.ones(8, 3, dtype=torch.bool), 9)
    assert len(finer.triangles) == 32
    assert len(finer.apply(points)) == 25
    torch.testing.assert_close(finer.apply(points)[:9], points)


def test_a_ball_gets_rounder() -> None:
    """New points of an octahedron go from 0.71 of the radius to near the sphere."""
    points = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    triangles = torch.tensor(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    )
    finer = split_edges(triangles, torch.ones(8, 3, dtype=torch.bool), 6)
    fine = finer.rounded(points, points)
    assert (fine[:6] == points).all()
    assert (fine[6:].norm(dim=-1) - 1).abs().max() < 0.2
