"""Known landmark errors give known percentages."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.landmark_error import (
    aflw21_error,
    aflw21_from_landmarks68,
    mean_by_bin,
    yaw_bin,
)


def annotated(count: int = 3) -> np.ndarray:
    """Return points in a box of exactly 40 x 90 pixels, with the geometric mean 60."""
    points = np.random.default_rng(0).uniform([10, 10], [50, 100], (count, 21, 2))
    points[:, 0], points[:, 1] = (10, 10), (50, 100)
    return points


def test_a_shift_is_its_length_over_the_geometric_mean_of_the_box() -> None:
    truth = annotated()
    np.testing.assert_allclose(aflw21_error(truth + np.array([3, 4]), truth), 100 * 5 / 60)


def test_ear_lobes_are_not_scored_but_count_in_the_box() -> None:
    truth = annotated()
    wrong = truth.copy()
    wrong[:, [12, 16]] += 30
    np.testing.assert_allclose(aflw21_error(wrong, truth), 0)
    wider = truth.copy()
    wider[:, 12] = (10 + 160, 10)  # The box becomes 160 x 90, whose geometric mean is 120.
    np.testing.assert_allclose(aflw21_error(wider + np.array([3, 4]), wider), 100 * 5 / 120)


def test_points_without_annotation_neither_count_nor_widen_the_box() -> None:
    truth = annotated()
    truth[:, 5] = np.nan
    predicted = np.nan_to_num(truth, nan=1e6) + np.array([0, 6])
    np.testing.assert_allclose(aflw21_error(predicted, truth), 10)


def test_bins_include_their_upper_ends() -> None:
    yaw = np.array([0, 30, 30.1, 60, 60.1, 95])
    np.testing.assert_array_equal(yaw_bin(yaw), [0, 0, 1, 1, 2, 2])


def test_headline_is_the_mean_of_bin_means_whatever_their_counts() -> None:
    errors, bins = np.array([1.0, 1, 1, 1, 4, 10]), np.array([0, 0, 0, 0, 1, 2])
    means, mean = mean_by_bin(errors, bins)
    np.testing.assert_allclose(means, [1, 4, 10])
    assert mean == pytest.approx(5)


def test_centres_of_eyes_and_mouth_are_means_of_their_ibug_outlines() -> None:
    points = np.random.default_rng(1).normal(size=(4, 68, 2))
    aflw = aflw21_from_landmarks68(points)
    np.testing.assert_allclose(aflw[:, 7], points[:, 36:42].mean(1))
    np.testing.assert_allclose(aflw[:, 10], points[:, 42:48].mean(1))
    np.testing.assert_allclose(aflw[:, 18], points[:, 60:68].mean(1))
    np.testing.assert_allclose(aflw[:, 20], points[:, 8])
