"""Intervals from resampling are as wide as in theory."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width, mean_and_half_width


def test_half_width_of_a_mean_is_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    mean, width = mean_and_half_width(values, seed=1, samples=2000)
    assert mean == pytest.approx(values.mean())
    assert width == pytest.approx(1.96 * values.std() / 20, rel=0.08)


def test_draws_repeat_with_their_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_and_half_width(values, seed=3) == mean_and_half_width(values, seed=3)
    assert mean_and_half_width(values, seed=3) != mean_and_half_width(values, seed=4)


def test_strata_keep_their_counts() -> None:
    strata = np.array([0] * 5 + [1] * 20)
    counts: set[tuple[int, int]] = set()

    def count(drawn: np.ndarray) -> float:
        counts.add(((drawn < 5).sum(), (drawn >= 5).sum()))
        return 0.0

    bootstrap_half_width(count, 25, seed=0, strata=strata, samples=50)
    assert counts == {(5, 20)}


def test_draws_without_a_figure_are_left_out() -> None:
    width = bootstrap_half_width(
        lambda drawn: np.nan if drawn[0] == 0 else float(drawn[0]), 3, seed=0
    )
    assert 0 < width <= 0.5


def test_photos_of_one_person_count_as_one() -> None:
    """Ten equal photos of each person give the same interval as one."""
    values = np.random.default_rng(0).normal(5, 2, 100)
    people = [f"person{i // 10}" for i in range(1000)]
    once = mean_and_half_width(values, seed=1)
    tenfold = mean_and_half_width(np.repeat(values, 10), people=people, seed=1)
    assert tenfold == pytest.approx(once)


def test_one_or_two_items_have_no_interval() -> None:
    assert np.isnan(mean_and_half_width(np.array([1.0, 4.0]), seed=0)[1])
