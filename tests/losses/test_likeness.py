"""The likeness compares the same aligned chip of two images, wherever the face is."""

import torch
from torch import Tensor

from lifemask.losses.likeness import likeness_loss
from lifemask.perception.identity import CHIP_POINTS, CHIP_TEMPLATE

SIDE = 64


def mean_colours(chips: Tensor) -> Tensor:
    """Embed chips as the mean colours of their four quarters."""
    return torch.nn.functional.adaptive_avg_pool2d(chips, 2).flatten(1)


def landmarks(corner: float, side: float, count: int = 1) -> Tensor:
    """Return dense landmarks whose chip is a square with this corner and side, pixels."""
    points = torch.full((count, 478, 2), torch.nan)
    points[:, list(CHIP_POINTS)] = torch.tensor(CHIP_TEMPLATE) * side + corner
    return points


def noise(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_equal_images_have_no_distance_and_brighter_ones_that_of_their_embedding():
    photo, known = noise(2, 0) * 0.5, torch.ones(2, 478)
    points = landmarks(8, 40, 2)
    assert not likeness_loss(mean_colours, photo, photo, points, known).any()
    # Each of the 12 numbers grows by 0.1.
    brighter = likeness_loss(mean_colours, photo + 0.1, photo, points, known)
    torch.testing.assert_close(brighter, torch.full((2,), 12 * 0.1**2), atol=1e-5, rtol=1e-4)


def test_only_the_chip_counts_and_it_follows_the_landmarks():
    photo, known = torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 478)
    drawn = photo.clone()
    drawn[..., 4:20, 4:20] = 1
    inside = likeness_loss(mean_colours, drawn, photo, landmarks(4, 16), known)
    beside = likeness_loss(mean_colours, drawn, photo, landmarks(30, 16), known)
    assert float(inside) > 10
    assert float(beside) == 0


def test_an_unknown_chip_counts_nothing_and_gradients_reach_the_drawing_only():
    photo, drawn = noise(2, 0).requires_grad_(), noise(2, 1).requires_grad_()
    weight = torch.ones(2, 478)
    weight[1, CHIP_POINTS[0]] = 0
    points = landmarks(8, 40, 2)
    points[1] = torch.nan
    loss = likeness_loss(mean_colours, drawn, photo, points, weight)
    loss.sum().backward()
    assert float(loss[0].detach()) > 0
    assert float(loss[1].detach()) == 0
    assert photo.grad is None
    assert drawn.grad is not None
    assert drawn.grad[0].any()
    assert not drawn.grad[1].any()
