"""One level of Catmull-Clark subdivision agrees with the paper's rules."""

import torch

from lifemask.geometry.subdivision import catmull_clark

CUBE = torch.tensor(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)
CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])


def test_rows_are_weighted_means() -> None:
    matrix = catmull_clark(CUBE, 8).matrix.to_dense()
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(26))


def test_cube_becomes_the_known_shape() -> None:
    # Corners move to 5/9 of their place, edge points to 3/4, face points stay (Catmull and Clark).
    fine = catmull_clark(CUBE, 8).apply(CORNERS)
    torch.testing.assert_close(fine[:8], CORNERS * 5 / 9)
    assert torch.allclose(fine[8:20].abs().sort(-1).values, torch.tensor([0, 0.75, 0.75]))
    assert torch.allclose(fine[20:].abs().sort(-1).values, torch.tensor([0.0, 0, 1]))


def test_four_quads_replace_each_in_order_and_keep_their_side() -> None:
    step = catmull_clark(CUBE, 8)
    fine = step.apply(CORNERS)
    assert step.quads.shape == (24, 4)
    assert step.quads[:, 0].tolist() == CUBE.reshape(-1).tolist()

    def normals(points: torch.Tensor, quads: torch.Tensor) -> torch.Tensor:
        a, b, c, d = points[quads].unbind(1)
        return torch.linalg.cross(c - a, d - b)

    coarse = normals(CORNERS, CUBE).repeat_interleave(4, 0)
    assert ((normals(fine, step.quads) * coarse).sum(-1) > 0).all()


def test_open_border_is_a_spline_of_the_border_alone() -> None:
    # A strip of two quads; moving its far side must not move the near border.
    quads = torch.tensor([[0, 1, 4, 3], [1, 2, 5, 4]])
    matrix = catmull_clark(quads, 6).matrix.to_dense()
    torch.testing.assert_close(matrix[1], torch.tensor([0.125, 0.75, 0.125, 0, 0, 0]))


def test_batches_are_refined_alike() -> None:
    step = catmull_clark(CUBE, 8)
    batch = torch.randn(2, 3, 8, 3, generator=torch.Generator().manual_seed(0))
    fine = step.apply(batch)
    assert fine.shape == (2, 3, 26, 3)
    torch.testing.assert_close(fine[1, 2], step.apply(batch[1, 2]))
