"""Known errors of a depth image give known percentages; scale and offset do not count."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.depth_error import depth_error

RANGE = 0.1


def face_depth() -> np.ndarray:
    """Return the depth of a bump, 0.8 to 0.9 m, 0 outside of a disc."""
    y, x = (np.mgrid[:80, :80] - 39.5) / 40
    radius = np.sqrt(x * x + y * y)
    bump = 0.9 - RANGE * np.sqrt(np.clip(1 - radius**2, 0, None))
    inside = radius < 1
    depth = np.where(inside, bump, 0.0)
    # The range is exact.
    low, high = depth[inside].min(), depth[inside].max()
    return np.where(inside, 0.8 + RANGE * (depth - low) / (high - low), 0.0)


def test_scale_and_offset_do_not_count():
    true = face_depth()
    error = depth_error(np.where(true > 0, 350 * (true - 0.7), 0.0), true)
    assert max(vars(error).values()) < 1e-9


def test_a_known_error_of_some_pixels_comes_out():
    true = face_depth()
    chosen = np.random.default_rng(3).random(true.shape) < 0.3
    share = chosen[true > 0].mean()
    wrong = np.where(true > 0, 3 * (true + 0.05 * RANGE * chosen) + 2, 0.0)
    error = depth_error(wrong, true)
    assert error.mean == pytest.approx(5 * share, rel=1e-6)
    assert error.std == pytest.approx(5 * np.sqrt(share * (1 - share)), rel=1e-6)
    assert error.median == pytest.approx(0, abs=1e-9)
    assert error.percentile90 == pytest.approx(5, rel=1e-6)


def test_only_pixels_in_both_masks_count():
    true = face_depth()
    predicted = np.where(true > 0, true, 0.0)
    predicted[:30] = 0
    assert depth_error(predicted, true).mean < 1e-9
    predicted[50:] = 7.0 * (true[50:] == 0)
    assert depth_error(predicted, true).mean < 1e-9


def test_the_same_images_give_the_same_error():
    true = face_depth()
    noisy = true + (true > 0) * 0.01 * np.random.default_rng(0).standard_normal(true.shape)
    assert depth_error(noisy, true) == depth_error(noisy, true)


def test_a_depth_without_range_is_refused():
    with pytest.raises(ValueError, match="over 0 common pixels"):
        depth_error(np.zeros((4, 4)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="different depths"):
        depth_error(np.ones((4, 4)), np.ones((4, 4)))
