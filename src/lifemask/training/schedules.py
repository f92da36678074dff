"""The learning rate as a function of progress; it has no state to store."""

import math

from lifemask.training.config import Phase, Schedule

LONGEST_RISE = 0.05
"""Part of the training that the rise of the learning rate takes at most."""


def progress(schedule: Schedule, step: int, minutes: float) -> float:
    """Return how much of the training is done, 0 to 1: by steps or time, whichever is further.

    Args:
        schedule: with steps, minutes or both.
        step: finished steps.
        minutes: spent on training so far.
    """
    by_steps = 0.0 if schedule.steps is None else step / max(schedule.steps, 1)
    by_time = 0.0 if schedule.minutes is None else minutes / max(schedule.minutes, 1e-9)
    return min(max(by_steps, by_time), 1.0)


def phase_progress(phase: Phase, done: float) -> float:
    """Return how much of a phase is done, 0 to 1, from how much of the training is."""
    return min(max((done - phase.start) / (phase.end - phase.start), 0.0), 1.0)


def learning_rate_factor(schedule: Schedule, step: int, done: float) -> float:
    """Return the factor on the largest learning rate of a phase: a linear rise, half a cosine.

    Args:
        schedule: warm-up and final factor.
        step: finished steps of the phase.
        done: the result of `phase_progress`.
    """
    rise = min(1.0, max((step + 1) / max(schedule.warmup_steps, 1), done / LONGEST_RISE))
    fall = 0.5 + 0.5 * math.cos(math.pi * done)
    return rise * (schedule.final_factor + (1 - schedule.final_factor) * fall)


def average_factor(largest: float, step: int) -> float:
    """Return the part of the averaged weights that a step keeps; less in the beginning."""
    return min(largest, (1 + step) / (10 + step))
