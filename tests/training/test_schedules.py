"""The learning rate is a function of progress."""

import itertools

import pytest

from lifemask.training.config import Schedule
from lifemask.training.schedules import average_factor, learning_rate_factor, progress


def test_rate_rises_then_follows_half_a_cosine() -> None:
    schedule = Schedule(steps=1000, warmup_steps=40, final_factor=0.1)
    factors = [learning_rate_factor(schedule, s, progress(schedule, s, 0)) for s in range(1001)]
    assert factors[0] == pytest.approx(1 / 40)
    assert max(factors) == pytest.approx(factors[39], rel=1e-6)
    assert factors[500] == pytest.approx(0.55)
    assert factors[1000] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(factors[40:]))


def test_progress_is_whichever_is_further() -> None:
    both = Schedule(steps=100, minutes=10)
    assert progress(both, 20, 5.0) == 0.5
    assert progress(both, 80, 5.0) == 0.8
    assert progress(both, 20, 50.0) == 1.0
    assert progress(Schedule(steps=None, minutes=10), 10**9, 1.0) == 0.1
    assert progress(Schedule(steps=100), 100, 0) == 1.0


def test_early_averages_forget_quickly() -> None:
    assert average_factor(0.999, 0) == pytest.approx(0.1)
    assert average_factor(0.999, 10**6) == 0.999


def test_the_rise_takes_a_twentieth_of_short_trainings() -> None:
    schedule = Schedule(steps=None, minutes=10, warmup_steps=1000)
    assert learning_rate_factor(schedule, 3, 0.025) == pytest.approx(0.5, rel=1e-2)
    assert learning_rate_factor(schedule, 6, 0.05) > 0.99
