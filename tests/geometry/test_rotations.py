"""Rotations agree with the matrix exponential, have gradients at zero, and have the right signs."""

import pytest
import torch
from rotation_angles import yaw_pitch_roll_from_matrix
from torch import Tensor

from lifemask.geometry.rotations import (
    cross_product_matrix,
    matrix_from_rotation_vector,
    matrix_from_yaw_pitch_roll,
)


def vectors(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64) * scale


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1e-4, 0.1, 1.0])
def test_rotations_match_the_matrix_exponential(scale: float) -> None:
    vector = vectors(50, scale=scale)
    expected = torch.linalg.matrix_exp(cross_product_matrix(vector))
    torch.testing.assert_close(matrix_from_rotation_vector(vector), expected, atol=1e-12, rtol=0)


def test_cross_product_matrix_is_the_cross_product() -> None:
    a, b = vectors(2, 20)
    product = (cross_product_matrix(a) @ b.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(product, torch.linalg.cross(a, b))


@pytest.mark.parametrize("scale", [0.0, 1e-5, 0.5])
def test_gradients_of_the_rotation_are_right_also_at_zero(scale: float) -> None:
    vector = vectors(3, scale=scale).requires_grad_()
    assert torch.autograd.gradcheck(matrix_from_rotation_vector, (vector,))


def test_angles_from_the_matrix_are_those_it_was_made_from() -> None:
    generator = torch.Generator().manual_seed(0)
    yaw, pitch, roll = (torch.rand(3, 50, generator=generator, dtype=torch.float64) - 0.5) * 3
    back = yaw_pitch_roll_from_matrix(matrix_from_yaw_pitch_roll(yaw, pitch, roll))
    for angle, other in zip((yaw, pitch, roll), back, strict=True):
        torch.testing.assert_close(other, angle)


def test_signs_of_yaw_pitch_and_roll() -> None:
    """Positive yaw turns the nose to the subject's left (+x), positive pitch down, positive roll
    counter-clockwise seen from the front: the left ear (+x) goes up.
    """
    zero, some = torch.zeros(()), torch.tensor(0.3)
    nose, left_ear = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    assert (matrix_from_yaw_pitch_roll(some, zero, zero) @ nose)[0] > 0.2
    assert (matrix_from_yaw_pitch_roll(zero, some, zero) @ nose)[1] < -0.2
    assert (matrix_from_yaw_pitch_roll(zero, zero, some) @ left_ear)[1] > 0.2
