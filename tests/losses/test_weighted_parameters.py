"""Parameters count by how far their errors move the points; posed points do not see the distance."""

import torch
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.geometry.viewpoints import Viewpoint, camera_of
from lifemask.losses.framed_points import FRAME_PIXELS, framed_points, squared_point_loss
from lifemask.losses.weighted_parameters import (
    parameter_reach,
    posed_parameters,
    weighted_parameter_loss,
)
from lifemask.morphable.coefficients import FaceCoefficients

SIDE = 96.0
SPREADS = {
    "identity": 1.0, "expression": 0.3, "rotation": 0.5, "translation": 0.1, "scale": 0.2,
    "distance": 0.3,
}  # fmt: skip


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(distance: float = 0.8) -> Viewpoint:
    return Viewpoint(
        matrix_from_rotation_vector(torch.tensor([[3.0, 0.4, 0.1]], dtype=torch.float64)),
        torch.tensor([[50.0, 40.0]], dtype=torch.float64),
        torch.tensor([400.0], dtype=torch.float64),
        torch.tensor([distance], dtype=torch.float64),
    )


def camera(view: Viewpoint) -> PerspectiveCamera:
    return camera_of(view, view.translation * 0 + SIDE / 2, (int(SIDE), int(SIDE)))


def test_two_coefficients_by_hand():
    predicted = torch.tensor([1.0, 0.0], dtype=torch.float64).requires_grad_()
    true = torch.tensor([0.0, 2.0], dtype=torch.float64)
    loss = weighted_parameter_loss(predicted, true, torch.tensor([3.0, 1.0], dtype=torch.float64))
    # Shifts of 3 and 2: weights of 1 and 2/3; (1 * 1 + 2/3 * 4) / 2.
    torch.testing.assert_close(float(loss.detach()), 11 / 6, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(loss, predicted)
    # Without the weights' own gradients: weight * difference.
    expected = torch.tensor([1.0, -4 / 3], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)


def test_the_loss_is_zero_at_the_truth_with_finite_gradients():
    true = noise(2, 5).requires_grad_()
    loss = weighted_parameter_loss(true, true.detach(), noise(2, 5, seed=1).abs())
    assert loss.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), true)
    assert float(gradient.abs().max()) == 0


def test_reach_is_the_motion_of_the_points_when_one_parameter_changes():
    true, modes, weights = view(), 2, noise(1, 3)
    basis, mean = 0.01 * noise(3, 30, 3, seed=1), 0.05 * noise(30, 3, seed=2)

    def seen(rotation: Tensor, view: Viewpoint, weights: Tensor) -> Tensor:
        # Scaled perspective without the turn of the line of sight, in metres at the head's origin.
        posed = (mean + torch.tensordot(weights, basis, dims=1)) @ rotation.transpose(-1, -2)
        near = posed[..., :2] / (1 + posed[..., 2:] / view.distance)
        flat = near * view.pixels_per_metre + view.translation
        return torch.cat([flat / 400, posed[..., 2:]], -1)

    reach = parameter_reach(
        true,
        mean + torch.tensordot(weights, basis, dims=1),
        basis,
        identity_modes=modes,
        frame_side=SIDE,
        spreads=SPREADS,
    )
    assert reach.shape == (1, 3 + 9 + 2 + 1 + 1)
    step = 1e-6
    for index in range(16):
        raw = weights.clone(), true.rotation.clone(), true.translation.clone()
        scale, distance = true.pixels_per_metre, true.distance
        if index < 3:
            raw[0][0, index] += step * SPREADS["identity" if index < modes else "expression"]
        elif index < 12:
            raw[1].view(9)[index - 3] += step * SPREADS["rotation"]
        elif index < 14:
            raw[2][0, index - 12] += step * SPREADS["translation"] * SIDE
        elif index == 14:
            scale = scale * (1 + step * SPREADS["scale"])
        else:
            distance = distance * (1 + step * SPREADS["distance"])
        changed = Viewpoint(raw[1], raw[2], scale, distance)
        moved = seen(raw[1], changed, raw[0]) - seen(true.rotation, true, weights)
        # Perspective changes the motion by up to the ratio of the head's size and its distance.
        measured = float(moved.norm()) / step
        assert abs(measured / float(reach[0, index]) - 1) < 0.2, index


def test_posed_parameters_are_in_units_of_their_spread():
    neutral = FaceCoefficients(noise(1, 2), noise(1, 3), noise(1, 2, 2), noise(1, 4))
    found = posed_parameters(neutral, view(), frame_side=SIDE, spreads=SPREADS)[0]
    assert len(found) == 2 + 3 + 9 + 4
    torch.testing.assert_close(found[2:5], neutral.expression[0] / 0.3)
    torch.testing.assert_close(found[14:16], torch.tensor([50.0, 40.0]).double() / SIDE / 0.1)


def test_framed_points_have_one_unit_and_do_not_see_the_distance_of_the_camera():
    points = 0.05 * noise(1, 6, 3)
    near, far = (framed_points(points, camera(view(d)), frame_side=SIDE) for d in (5e3, 1e4))
    torch.testing.assert_close(near, far, atol=1e-3, rtol=0)
    pixel = FRAME_PIXELS / SIDE
    middle = torch.tensor([50.0, 40.0, 0.0], dtype=torch.float64) * pixel
    torch.testing.assert_close(
        (near - middle).norm(dim=-1), points.norm(dim=-1) * 400 * pixel, atol=1e-3, rtol=0
    )


def test_squared_point_loss_is_a_weighted_mean_that_ignores_unknown_points():
    predicted = noise(1, 3, 2).requires_grad_()
    seen = predicted.detach() + torch.tensor([[3.0, 4.0], [0.0, 2.0], [float("nan"), 0.0]])
    weight = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    loss = squared_point_loss(predicted, seen, weight)
    assert loss.tolist() == [(25 + 3 * 4) / 4]
    (gradient,) = torch.autograd.grad(loss.sum(), predicted)
    assert gradient.isfinite().all()
    assert squared_point_loss(predicted, seen, weight * 0).tolist() == [0.0]
    assert squared_point_loss(predicted[:, :2], seen[:, :2]).tolist() == [(25 + 4) / 2]
