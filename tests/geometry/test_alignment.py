"""Alignment finds a known motion, and no nearby motion fits better."""

import pytest
import torch

from lifemask.geometry.alignment import align_points
from lifemask.geometry.rotations import matrix_from_rotation_vector


def moved_points(scale: float) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(4, 30, 3, generator=generator, dtype=torch.float64)
    rotation = matrix_from_rotation_vector(torch.randn(4, 3, generator=generator).double())
    translation = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    target = scale * source @ rotation.transpose(-1, -2) + translation.unsqueeze(-2)
    return source, target, rotation, translation


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_known_motion_is_found(scale: float) -> None:
    source, target, rotation, translation = moved_points(scale)
    found = align_points(source, target, with_scale=scale != 1.0)
    torch.testing.assert_close(found[0], torch.full((4,), scale, dtype=torch.float64))
    torch.testing.assert_close(found[1], rotation)
    torch.testing.assert_close(found[2], translation)


def test_mirrored_points_get_a_rotation_not_a_reflection() -> None:
    source, _, _, _ = moved_points(1.0)
    _, rotation, _ = align_points(source, source * torch.tensor([-1.0, 1.0, 1.0]).double())
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4, dtype=torch.float64))


def test_points_without_weight_do_not_count() -> None:
    source, target, rotation, _ = moved_points(1.0)
    weights = torch.ones(4, 30, dtype=torch.float64)
    weights[:, 20:] = 0
    target[:, 20:] += 100
    torch.testing.assert_close(align_points(source, target, weights)[1], rotation)


def test_no_small_change_of_the_result_fits_better() -> None:
    source, target, _, _ = moved_points(1.5)
    generator = torch.Generator().manual_seed(1)
    target = target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    weights = torch.rand(4, 30, generator=generator, dtype=torch.float64)
    scale, rotation, translation = align_points(source, target, weights, with_scale=True)

    def error(change: torch.Tensor) -> torch.Tensor:
        turned = matrix_from_rotation_vector(change[:3]) @ rotation
        moved = (scale + change[6])[:, None, None] * source @ turned.transpose(-1, -2)
        moved = moved + (translation + change[3:6]).unsqueeze(-2)
        return (weights.unsqueeze(-1) * (moved - target) ** 2).sum((-1, -2))

    best = error(torch.zeros(7, dtype=torch.float64))
    for _ in range(50):
        change = 0.02 * torch.randn(7, generator=generator, dtype=torch.float64)
        assert (error(change) >= best).all()
