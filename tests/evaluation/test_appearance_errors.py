"""Known errors of albedo, light and relit photos give known figures."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.appearance_error import (
    best_scale,
    chroma_angle,
    nearest_filled,
    relative_rms,
    relit_psnr,
    shading_energy,
)


def test_one_scale_is_free_and_alternating_errors_are_their_size() -> None:
    true = np.full((1000, 3), 0.4)
    assert best_scale(0.3 * true, true) == pytest.approx(1 / 0.3)
    assert relative_rms(best_scale(5 * true, true) * 5 * true, true) == pytest.approx(0, abs=1e-9)
    sign = np.where(np.arange(1000) % 2 == 0, 1, -1)[:, None]
    assert relative_rms(true * (1 + 0.1 * sign), true) == pytest.approx(10)
    assert best_scale(np.zeros((4, 3)), np.ones((4, 3))) == 0


def test_chroma_is_the_angle_between_colours_whatever_their_brightness() -> None:
    red, tilted = np.array([[1.0, 0, 0]]), np.array([[3.0, 3.0, 0]])
    assert chroma_angle(red, tilted) == pytest.approx(45)
    assert chroma_angle(red, 7 * red) == pytest.approx(0, abs=1e-6)
    assert chroma_angle(np.zeros((1, 3)), red) == pytest.approx(90)


def test_shading_energy_is_the_share_of_the_shading_that_the_light_explains() -> None:
    true = np.random.default_rng(0).uniform(0, 1, (9, 9, 3))
    mask = np.zeros((9, 9), bool)
    mask[2:7, 1:8] = True
    assert shading_energy(0.4 * true + 0.3, true, mask) == pytest.approx(0.4)
    assert shading_energy(np.full_like(true, 0.7), true, mask) == pytest.approx(0, abs=1e-9)
    # What lies beside the skin does not count, and a shading without spread has no figure.
    beside = np.where(mask[..., None], true, 5.0)
    assert shading_energy(beside, true, mask) == pytest.approx(1)
    assert np.isnan(shading_energy(true, np.ones_like(true), mask))


def test_psnr_of_a_relit_photo_is_that_of_its_srgb_values() -> None:
    # On the straight part near black sRGB is 12.92 times linear light.
    true = np.full((20, 20, 3), 0.001)
    mask = np.ones((20, 20), bool)
    sign = np.where(np.indices((20, 20)).sum(0) % 2 == 0, 1, -1)[..., None]
    wrong = true * (1 + 0.5 * sign)
    scale = 1 / 1.25  # Least squares: sum(p t) / sum(p p) = 1 / (1 + 0.5²).
    squared = np.mean((12.92 * (scale * wrong - true)) ** 2)
    assert relit_psnr(wrong, true, mask) == pytest.approx(-10 * np.log10(squared), abs=1e-3)
    assert relit_psnr(8 * true, true, mask) == pytest.approx(120)


def test_empty_pixels_repeat_the_nearest_given_one() -> None:
    values = np.zeros((5, 6, 1))
    given = np.zeros((5, 6), bool)
    values[2, 1], values[2, 4] = 3, 7
    given[2, [1, 4]] = True
    filled = nearest_filled(values, given)
    np.testing.assert_array_equal(filled[..., 0], np.repeat([[3, 3, 3, 7, 7, 7]], 5, 0))
    np.testing.assert_array_equal(nearest_filled(values, given & False), values)


def test_relit_psnr_depends_on_the_mask_alone() -> None:
    true = np.random.default_rng(0).uniform(0.1, 0.9, (8, 8, 3))
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    wrong = np.where(mask[..., None], true, 0)
    assert relit_psnr(wrong, true, mask) == pytest.approx(120)
