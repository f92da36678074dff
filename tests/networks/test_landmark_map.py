"""Landmark maps know fractions of pixels, have gradients, and ignore unknown points."""

import torch
from torch import Tensor

from lifemask.morphable.model import MorphableModel
from lifemask.networks.landmark_map import (
    IMPORTANCE18,
    POINTS18_FROM_IBUG68,
    SIGMA,
    LandmarkMap,
    binary_map,
    points18,
    soft_map,
    weights18,
)
from lifemask.perception.correspondences import IBUG68_FROM_DENSE478

POINTS = torch.tensor([[[10.3, 20.85], [30.0, 8.5]]], dtype=torch.float64)
ONES = torch.ones(1, 2, dtype=torch.float64)


def test_a_soft_map_is_the_sum_of_gaussians_at_the_points():
    drawn = soft_map(POINTS, ONES, size=40, sigma=1.5)
    for row, column in ((20, 10), (21, 12), (8, 29), (0, 0)):
        centre = torch.tensor([column + 0.5, row + 0.5], dtype=torch.float64)
        squared = (POINTS[0] - centre).square().sum(-1)
        torch.testing.assert_close(drawn[0, row, column], (squared / -4.5).exp().sum())


def test_the_centre_of_a_soft_mark_is_its_point():
    drawn = soft_map(POINTS[:, :1], ONES[:, :1], size=40, sigma=1.5)[0]
    places = torch.arange(40, dtype=torch.float64) + 0.5
    centre = torch.stack([(drawn.sum(axis) * places).sum() for axis in (0, 1)]) / drawn.sum()
    torch.testing.assert_close(centre, POINTS[0, 0], atol=1e-6, rtol=0)


def test_the_gradient_of_a_soft_map_agrees_with_finite_differences():
    points = POINTS.clone().requires_grad_()
    weight = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: soft_map(p, weight, size=40, sigma=1.5), [points])


def test_a_binary_map_is_one_at_the_pixels_of_points_and_minus_one_elsewhere():
    points = torch.tensor([[[10.3, 20.85], [10.9, 20.1], [-3.0, 45.0], [float("nan"), 0.0]]])
    drawn = binary_map(points, torch.tensor([[1.0, 0.2, 1.0, 0.0]]), size=40)
    expected = -torch.ones(1, 40, 40)
    expected[0, 20, 10] = expected[0, 39, 0] = 1
    assert torch.equal(drawn, expected)


def test_unknown_points_are_not_drawn_even_as_nan():
    points = torch.tensor([[[10.0, 20.0], [float("nan"), float("nan")]]])
    known = torch.tensor([[1.0, 0.0]])
    drawn = soft_map(points, known, size=40, sigma=1.5)
    assert torch.equal(drawn, soft_map(points[:, :1], known[:, :1], size=40, sigma=1.5))
    assert float(soft_map(points, known * 0, size=40, sigma=1.5).abs().max()) == 0
    assert float(binary_map(points, known * 0, size=40).max()) == -1


def test_a_map_of_another_size_shows_the_same_places():
    points, weight = torch.tensor([[[32.0, 48.0]]]), torch.ones(1, 1)
    drawn = LandmarkMap(120, frame_side=64)(points, weight)
    assert drawn.shape == (1, 1, 120, 120)
    expected = soft_map(points * 120 / 64, weight, size=120, sigma=SIGMA * 120)
    torch.testing.assert_close(drawn[:, 0], expected)
    binary = LandmarkMap(120, frame_side=64, soft=False)(points, weight)[0, 0]
    assert (binary > 0).nonzero().tolist() == [[90, 60]]


def test_points18_agree_with_the_ibug_points_of_the_head():
    model = MorphableModel.from_pretrained()
    assert model.dense478 is not None
    assert model.landmarks68_outline is not None
    generator = torch.Generator().manual_seed(0)
    neutral = model.neutral()
    identity = torch.randn(4, len(neutral.identity), generator=generator)
    vertices = model.mean + torch.tensordot(identity, model.identity_basis, dims=1)
    dense = model.dense478.points(vertices, model.triangles)
    ibug = model.landmarks68_outline.points(vertices, model.triangles)
    expected = torch.stack([ibug[:, list(pair)].mean(1) for pair in POINTS18_FROM_IBUG68], 1)
    metres: Tensor = (points18(dense) - expected).norm(dim=-1)
    assert float(metres.mean()) < 0.003
    assert float(metres.max()) < 0.007


def test_a_point_of_two_is_known_as_well_as_the_worse_one():
    weight = torch.ones(478)
    weight[IBUG68_FROM_DENSE478[40]] = 0.25
    found = weights18(weight)
    assert found[7] == 0.25
    assert found.sum() == 17.25
    assert len(IMPORTANCE18) == len(POINTS18_FROM_IBUG68) == 18
