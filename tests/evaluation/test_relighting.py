"""Known errors of relit photos and albedos give known percentages."""

from collections.abc import Callable

import numpy as np
import pytest

from lifemask.evaluation.metrics.albedo_error import albedo_error, albedo_variation
from lifemask.evaluation.metrics.relighting import (
    albedo_by_division,
    lambertian,
    relative_error,
    weighted_median,
)

People = Callable[[int], tuple[np.ndarray, np.ndarray]]

LEFT = np.array([-0.5, 0.3, 1.0]) / np.linalg.norm([-0.5, 0.3, 1.0])
RIGHT = np.array([0.4, 0.1, 1.0]) / np.linalg.norm([0.4, 0.1, 1.0])


def test_weighted_median_halves_the_weight() -> None:
    values, weights = np.array([5.0, 1, 3]), np.array([1.0, 1, 8])
    assert weighted_median(values, weights) == 3
    assert weighted_median(np.arange(5.0), np.ones(5)) == 2


def test_one_scale_is_free_and_a_known_relative_error_comes_out() -> None:
    generator = np.random.default_rng(0)
    photo = generator.uniform(40, 200, (30, 30))
    mask = np.ones((30, 30), bool)
    assert relative_error(0.37 * photo, photo, mask) == pytest.approx(0, abs=1e-9)
    # Half of the pixels 20 % too bright and half 20 % too dark: the scale cannot mend it, because
    # more than half of the predicted light lies on the bright ones and so keeps them right.
    factor = np.where(np.arange(900).reshape(30, 30) % 2 == 0, 1.2, 0.8)
    error = relative_error(photo * factor, photo, mask)
    # k is 1 / 1.2 (right on the bright half, 1/3 too dark on the other): errors 0 and 1/3.
    assert 0 <= error <= 100 / 3 + 1e-9
    assert relative_error(np.zeros_like(photo), photo, mask) == pytest.approx(100)


def test_dark_photo_values_are_divided_by_eight() -> None:
    photo = np.full((4, 4), 2.0)
    mask = np.ones((4, 4), bool)
    assert relative_error(np.zeros((4, 4)), photo, mask) == pytest.approx(25)


def test_a_lambertian_photo_relights_without_error(people: People) -> None:
    normals, masks = people(1)
    albedo = np.random.default_rng(0).uniform(60, 180, masks[0].shape)
    mask = masks[0] & (normals[0] @ LEFT > 0.15) & (normals[0] @ RIGHT > 0.15)
    seen, wanted = (lambertian(albedo, normals[0], light) for light in (LEFT, RIGHT))
    recovered = albedo_by_division(seen, normals[0], LEFT)
    relit = lambertian(recovered, normals[0], RIGHT)
    assert relative_error(relit, wanted, mask) == pytest.approx(0, abs=1e-6)
    assert relative_error(seen, wanted, mask) > 5


def test_albedo_error_ignores_one_scale_and_sees_baked_light(people: People) -> None:
    normals, masks = people(1)
    true = np.random.default_rng(0).uniform(60, 180, masks[0].shape)
    assert albedo_error(true / 300, true, masks[0]) == pytest.approx(0, abs=1e-9)
    assert albedo_error(lambertian(true, normals[0], LEFT), true, masks[0]) > 5


def test_albedo_variation_is_the_relative_spread_over_lights() -> None:
    mask = np.ones((20, 20), bool)
    albedo = np.random.default_rng(0).uniform(60, 180, (20, 20))
    constant = np.stack([albedo, 2 * albedo, 0.1 * albedo])
    assert albedo_variation(constant, mask) == pytest.approx(0, abs=1e-9)
    # Half of the pixels 10 % brighter and half darker, the other way round under the other light.
    sign = np.where(np.arange(400).reshape(20, 20) % 2 == 0, 1, -1)
    shaded = np.stack([albedo.mean() * (1 + 0.1 * sign), albedo.mean() * (1 - 0.1 * sign)])
    assert albedo_variation(shaded, mask) == pytest.approx(10)
