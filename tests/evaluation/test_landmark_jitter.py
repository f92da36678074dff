"""Known movements give known percentages, and points are mapped back correctly."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.landmark_jitter import jitter_percent, map_back, perturb


def test_jitter_is_the_rms_distance_over_the_size_of_the_box() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (68, 2)) * 0
    points[0], points[1] = (100, 100), (200, 500)
    points[2:] = (150, 200)
    # A circle of radius 3 around each point; the box is 100 x 400, whose geometric mean is 200.
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    assert jitter_percent(points + circle[:, None]) == pytest.approx(1.5)
    assert jitter_percent(np.stack([points] * 5)) == 0


def test_points_of_the_perturbed_photo_map_back_to_where_they_were() -> None:
    y, x = np.mgrid[:160, :200] + 0.5
    blob = 200 * np.exp(-((x - 120.5) ** 2 + (y - 60.5) ** 2) / 2 / 6**2)
    pixels = np.repeat(blob[..., None], 3, -1).astype(np.uint8)
    generator = np.random.default_rng(3)
    for _ in range(5):
        perturbed, back = perturb(pixels, generator)
        assert perturbed.shape == pixels.shape
        assert (back[:, :2] != np.eye(2)).any()
        weight = np.maximum(perturbed[..., 0].astype(float) - 20, 0)
        centre = np.array([[(weight * x).sum(), (weight * y).sum()]]) / weight.sum()
        np.testing.assert_allclose(map_back(centre, back), [[120.5, 60.5]], atol=0.12)


def test_perturbations_repeat_with_their_seed() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    first = perturb(pixels, np.random.default_rng([0, 1, 2]))
    second = perturb(pixels, np.random.default_rng([0, 1, 2]))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
