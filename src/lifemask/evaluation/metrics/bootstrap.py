"""Uncertainty of figures: 95 % intervals by resampling people or photos."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int


def bootstrap_half_width(
    statistic: Callable[[Int[np.ndarray, "N"]], float],
    count: int,
    *,
    seed: int,
    strata: Int[np.ndarray, "N"] | None = None,
    samples: int = 1000,
) -> float:
    """Return half the width of the 95 % percentile interval of a figure.

    Efron, "Bootstrap methods: another look at the jackknife", 1979.

    Args:
        statistic: the figure computed from items drawn with repetition, given by their indices;
            draws for which it is not finite are left out.
        count: number of items (photos, or people where one person has several).
        seed: seed of the draws.
        strata: class of each item; each class keeps its count in every draw.
        samples: number of draws.

    Returns:
        The half width; NaN for fewer than three items.
    """
    if count < 3:
        return float("nan")  # One or two items are too few for an interval.
    generator = np.random.default_rng(seed)
    classes = np.zeros(count, np.int64) if strata is None else strata
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    values = np.array(
        [
            statistic(np.concatenate([generator.choice(m, len(m)) for m in members]))
            for _ in range(samples)
        ]
    )
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float((high - low) / 2)


def mean_and_half_width(
    values: Float[np.ndarray, "N"],
    *,
    seed: int,
    people: Sequence[object] | None = None,
    samples: int = 1000,
) -> tuple[float, float]:
    """Return the mean of values and half the width of its 95 % interval over people.

    Args:
        values: one for each photo.
        seed: seed of the draws.
        people: the person on each photo; a draw takes all photos of a person or none, because their
            errors are correlated. None: each photo shows another person.
        samples: number of draws.
    """
    if people is None:
        groups = [np.array([i]) for i in range(len(values))]
    else:
        rows: dict[object, list[int]] = {}
        for index, person in enumerate(people):
            rows.setdefault(person, []).append(index)
        groups = [np.array(members) for members in rows.values()]

    def mean_of(drawn: Int[np.ndarray, "N"]) -> float:
        return float(values[np.concatenate([groups[g] for g in drawn])].mean())

    half_width = bootstrap_half_width(mean_of, len(groups), seed=seed, samples=samples)
    return float(values.mean()), half_width
