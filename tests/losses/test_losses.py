"""Each loss is zero at the truth, increases as its test states, and ignores unknown values."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.losses.albedo import albedo_loss
from lifemask.losses.coefficients import (
    coefficient_loss,
    coefficient_prior,
    geometric_importance,
)
from lifemask.losses.gaze import gaze_direction, gaze_loss
from lifemask.losses.landmarks import landmark_loss
from lifemask.losses.light import facing_directions, light_loss
from lifemask.losses.likelihood import point_likelihood_loss
from lifemask.losses.means import weighted_mean
from lifemask.losses.photometric import photometric_loss
from lifemask.losses.pose import ratio_loss, rotation_loss, translation_loss
from lifemask.losses.vertices import FACE_SIZE_METRES, squared_vertex_loss, vertex_loss
from lifemask.morphable.eyeballs import gaze_rotation


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotations(count: int, seed: int = 0) -> Tensor:
    return matrix_from_rotation_vector(noise(count, 3, seed=seed))


def lit(coefficients: Tensor) -> SphericalHarmonicsLight:
    return SphericalHarmonicsLight(coefficients)


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "landmarks": (
        lambda a, b: landmark_loss(a, b, torch.ones_like(a[..., 0]), frame_side=2.0),
        (5, 2),
    ),
    "vertices": (vertex_loss, (5, 3)),
    "squared_vertices": (squared_vertex_loss, (5, 3)),
    "coefficients": (coefficient_loss, (7,)),
    "translation": (lambda a, b: translation_loss(a, b, frame_side=3.0), (2,)),
    "ratio": (lambda a, b: ratio_loss(a.exp(), b.exp()), ()),
    "light": (lambda a, b: light_loss(lit(a), lit(b)), (9, 3)),
    "albedo": (
        lambda a, b: albedo_loss(a.sigmoid(), b.sigmoid(), torch.ones_like(a[..., 0, :, :])),
        (3, 4, 4),
    ),
    "photometric": (
        lambda a, b: photometric_loss(a, b, torch.ones_like(a[..., 0, :, :]), scale=1.0),
        (3, 4, 4),
    ),
    "gaze": (gaze_loss, (2, 2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_value_per_image_zero_at_the_truth_with_finite_gradients(name: str):
    loss, shape = LOSSES[name]
    true = noise(2, 3, *shape)
    same = true.clone().requires_grad_()
    at_truth = loss(same, true)
    assert at_truth.shape == (2, 3)
    torch.testing.assert_close(at_truth, torch.zeros_like(at_truth), atol=1e-5, rtol=0)
    at_truth.sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
    off = loss(true + 0.1 * noise(2, 3, *shape, seed=1), true)
    assert (off > 0).all()
    # One image's value hangs on that image alone.
    torch.testing.assert_close(
        loss(true[1, 2] + 0.1 * noise(2, 3, *shape, seed=1)[1, 2], true[1, 2]), off[1, 2]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str):
    loss, shape = LOSSES[name]
    true = noise(2, *shape)
    beside = (true + 0.3 * noise(2, *shape, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, true), [beside], atol=1e-5)


def test_unknown_landmarks_do_not_count_even_as_nan():
    predicted = noise(2, 4, 2).requires_grad_()
    seen = predicted.detach() + torch.tensor([3.0, 4.0])
    seen[:, 2:] = float("nan")
    weight = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    loss = landmark_loss(predicted, seen, weight, frame_side=10.0)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.0], dtype=torch.float64))
    loss.sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[0, 2:] == 0).all()
    assert (predicted.grad[1] == 0).all()


def test_weighted_mean_is_the_mean_of_what_has_weight():
    values = torch.tensor([1.0, 3.0, float("inf")])
    assert float(weighted_mean(values, torch.tensor([1.0, 1.0, 0.0]))) == 2.0
    assert float(weighted_mean(values, torch.zeros(3))) == 0.0


def test_vertices_moved_by_a_face_are_one_away():
    points = noise(2, 6, 3)
    moved = points + torch.tensor([0.0, FACE_SIZE_METRES, 0.0])
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(vertex_loss(moved, points), ones)
    further = points + 3 * (moved - points)
    torch.testing.assert_close(squared_vertex_loss(further, points), 9 * ones)


def test_rotation_loss_is_the_angle_in_any_axes():
    angles = torch.tensor([0.01, 0.5, 2.0, 3.1], dtype=torch.float64)
    axis = torch.nn.functional.normalize(noise(4, 3), dim=-1)
    turn, first, other = (
        matrix_from_rotation_vector(axis * angles[:, None]),
        rotations(4),
        rotations(4, 1),
    )
    torch.testing.assert_close(rotation_loss(turn @ first, first), angles, atol=1e-6, rtol=1e-5)
    both = rotation_loss(other @ turn @ first, other @ first)
    torch.testing.assert_close(both, angles, atol=1e-6, rtol=1e-5)


def test_rotation_loss_is_finite_at_half_a_turn():
    half = matrix_from_rotation_vector(torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64))
    half = half.requires_grad_()
    rotation_loss(half, torch.eye(3, dtype=torch.float64)).backward()
    assert half.grad is not None
    assert half.grad.isfinite().all()


def test_a_factor_is_as_far_as_its_inverse():
    one = torch.ones(3)
    torch.testing.assert_close(ratio_loss(one * 2, one), ratio_loss(one, one * 2))
    torch.testing.assert_close(ratio_loss(one * 2, one), one * math.log(2))


def test_light_that_is_a_tenth_brighter_is_a_tenth_away():
    light = SphericalHarmonicsLight.ambient(0.7)
    brighter = SphericalHarmonicsLight(light.coefficients * 1.1)
    assert float(light_loss(brighter, light)) == pytest.approx(0.1, rel=1e-3)


def test_facing_directions_are_unit_and_even():
    directions = facing_directions(200)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(200))
    # The mean of z over the half ball is 1/2; of x and y, 0.
    torch.testing.assert_close(directions.mean(0), torch.tensor([0.0, 0.0, 0.5]), atol=0.02, rtol=0)


def test_albedo_counts_alike_on_dark_and_on_light_skin():
    weight = torch.ones(1, 2, 2)
    for tone in (0.05, 0.6):
        true = torch.full((1, 3, 2, 2), tone)
        assert float(albedo_loss(true * 1.2, true, weight)) == pytest.approx(
            math.log(1.2), rel=1e-4
        )


def test_photometric_outliers_count_at_most_one_and_the_scale_counts_half():
    photo = torch.zeros(1, 3, 2, 2)
    far = torch.full_like(photo, 1e6)
    mask = torch.ones(1, 2, 2)
    assert float(photometric_loss(far, photo, mask)) == pytest.approx(1.0)
    at_scale = photo.clone()
    at_scale[:, 0] = 0.1
    assert float(photometric_loss(at_scale, photo, mask)) == pytest.approx(0.5)
    assert float(photometric_loss(far, photo, mask * 0)) == 0.0


def test_gaze_directions_are_those_of_the_head_model():
    gaze = noise(5, 2) * 0.5
    torch.testing.assert_close(gaze_direction(gaze), gaze_rotation(gaze)[..., 2])


def test_the_prior_is_the_mean_square():
    assert float(coefficient_prior(torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(14 / 3)


def test_modes_that_move_nothing_have_no_importance():
    basis = torch.zeros(3, 4, 3)
    basis[0, :, 1], basis[1, 0, 0] = 2.0, 1.0
    importance = geometric_importance(basis)
    torch.testing.assert_close(importance, torch.tensor([1.0, 1 / 16, 0.0]))
    far_in_the_third = coefficient_loss(torch.tensor([0.0, 0.0, 9.0]), torch.zeros(3), importance)
    assert float(far_in_the_third) == 0.0


def test_the_likelihood_is_best_at_the_spread_of_the_points():
    points = noise(1, 4000, 2) * 3.0
    weight = torch.ones(1, 4000, dtype=torch.float64)

    def loss(sigma: float, balance: float = 0.0) -> float:
        log_sigma = torch.full_like(weight, math.log(sigma))
        return float(
            point_likelihood_loss(points * 0, log_sigma, points, weight, balance=balance)[0]
        )

    assert loss(3.0) < min(loss(2.5), loss(3.5))
    # -log density of two Gaussian coordinates, without the constant log(2 pi).
    assert loss(3.0) == pytest.approx(1 + 2 * math.log(3.0), abs=0.05)


def test_a_balanced_likelihood_moves_uncertain_points_as_much_as_certain_ones():
    log_sigma = torch.tensor([[math.log(0.1), math.log(10.0)]], dtype=torch.float64)
    predicted = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    seen = torch.ones(1, 2, 2, dtype=torch.float64)
    weight = torch.ones(1, 2, dtype=torch.float64)
    point_likelihood_loss(predicted, log_sigma, seen, weight, balance=1.0).sum().backward()
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad[0, 0], predicted.grad[0, 1])


def test_the_likelihood_ignores_unknown_points():
    predicted = noise(1, 3, 2).requires_grad_()
    seen = torch.full((1, 3, 2), float("nan"), dtype=torch.float64)
    seen[0, 0] = 1.0
    weight = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    value = point_likelihood_loss(predicted, torch.zeros_like(weight), seen, weight)
    value.sum().backward()
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()
    assert value.item() == pytest.approx((predicted[0, 0] - 1).square().sum().item() / 2)
