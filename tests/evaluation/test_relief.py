"""Relief of normals: what a mesh lacks is compared alone, and heights come back from slopes."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.relief import compare_relief, relief, relief_heights


def surface(heights: np.ndarray, smooth: np.ndarray, millimetres_per_pixel: float) -> np.ndarray:
    """Return the unit normals of depths z = smooth + heights (pixels down are -y), by differences."""
    down, right = np.gradient(smooth + heights, millimetres_per_pixel)
    normals = np.stack([-right, down, np.ones_like(right)], axis=-1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


@pytest.fixture
def bumps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return small waves and a round head (millimetres, 0.5 mm per pixel), and a mask."""
    y, x = (np.mgrid[:160, :160] - 80) / 2
    waves = 0.05 * np.sin(2 * np.pi * x / 5) * np.sin(2 * np.pi * (y + 0.3 * x) / 7)
    round_head = -(x**2 + 0.7 * y**2) / 150
    return waves, round_head, x**2 + y**2 < 35**2


def test_the_truth_fits_itself_and_the_smooth_surface_does_not(
    bumps: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    waves, head, mask = bumps
    fine, smooth = surface(waves, head, 0.5), surface(0 * waves, head, 0.5)
    true = relief(fine, smooth, mask, sigma=6)
    itself, flat = compare_relief(true, true, mask), relief(smooth, smooth, mask, sigma=6)
    assert itself.correlation == pytest.approx(1)
    assert itself.amplitude == pytest.approx(1)
    assert compare_relief(flat, true, mask).correlation == 0
    assert compare_relief(flat, true, mask).amplitude == 0
    assert np.isnan(compare_relief(true, flat, mask).amplitude)


def test_half_the_depth_has_half_the_amplitude_and_the_inverse_the_opposite_sign(
    bumps: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    waves, head, mask = bumps
    smooth = surface(0 * waves, head, 0.5)
    true, half, inverse = (
        relief(surface(k * waves, head, 0.5), smooth, mask, sigma=6) for k in (1.0, 0.5, -1.0)
    )
    assert compare_relief(half, true, mask).amplitude == pytest.approx(0.5, rel=0.02)
    assert compare_relief(half, true, mask).correlation > 0.995
    assert compare_relief(inverse, true, mask).correlation < -0.99


def test_a_slow_error_of_the_shape_does_not_count_and_missing_pixels_are_smooth(
    bumps: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    waves, head, mask = bumps
    fine, smooth = surface(waves, head, 0.5), surface(0 * waves, head, 0.5)
    true = relief(fine, smooth, mask, sigma=6)
    flatter = relief(surface(waves, 0.8 * head, 0.5), smooth, mask, sigma=6)
    assert compare_relief(flatter, true, mask).correlation > 0.95
    half = fine.copy()
    half[:80] = 0
    found = relief(half, smooth, mask, sigma=6)
    assert np.abs(found[:55]).max() == 0
    # Half the pixels keep half the energy.
    assert compare_relief(found, true, mask).amplitude == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_heights_come_back_from_the_normals(
    bumps: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    waves, head, mask = bumps
    smooth = surface(0 * waves, head, 0.5)
    bumpy = relief(surface(waves, head, 0.5), smooth, mask, sigma=20)
    heights = relief_heights(bumpy, smooth, np.full(mask.shape, 0.5), mask)
    # `waves` are along the line of sight; along the normal they are lower by its cosine.
    wanted = (waves * smooth[..., 2])[mask]
    assert heights[mask].mean() == pytest.approx(0, abs=1e-6)
    assert np.corrcoef(heights[mask], wanted)[0, 1] > 0.98
    assert heights[mask].std() == pytest.approx(wanted.std(), rel=0.1)
    assert not heights[~mask].any()
