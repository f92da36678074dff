"""AFLW landmark error: 19 of 21 points, relative to the box of all annotated points."""

import numpy as np
from jaxtyping import Float, Int

EAR_LOBES = (12, 16)
"""AFLW points that count for the box but not for the error."""

YAW_BINS_DEGREES = ((0, 30), (30, 60), (60, 180))
"""Bins of absolute yaw, upper ends included."""

# iBUG points for AFLW's points, the same table for every program; the ear lobes, which are not
# scored, get jaw points 2 and 14 as placeholders.
_AFLW21_FROM_IBUG68 = (
    *((17,), (19,), (21,), (22,), (24,), (26,)),
    *((36,), (36, 37, 38, 39, 40, 41), (39,), (42,), (42, 43, 44, 45, 46, 47), (45,)),
    *((2,), (31,), (30,), (35,), (14,), (48,), (60, 61, 62, 63, 64, 65, 66, 67), (54,), (8,)),
)


def aflw21_from_landmarks68(
    landmarks68: Float[np.ndarray, "*batch 68 2"],
) -> Float[np.ndarray, "*batch 21 2"]:
    """Return AFLW's 21 points taken from the 68 iBUG points; ear lobes are placeholders."""
    points = [landmarks68[..., list(group), :].mean(-2) for group in _AFLW21_FROM_IBUG68]
    return np.stack(points, axis=-2)


def aflw21_error(
    predicted: Float[np.ndarray, "N 21 2"], annotated: Float[np.ndarray, "N 21 2"]
) -> Float[np.ndarray, "N"]:
    """Return each photo's error in percent.

    It is the mean distance over the annotated points without the ear lobes, divided by the square
    root of the area of the bounding box of all annotated points, ear lobes included.

    Args:
        predicted: pixels.
        annotated: pixels, NaN where not annotated.
    """
    size = np.sqrt(np.prod(np.nanmax(annotated, 1) - np.nanmin(annotated, 1), axis=-1))
    distance = np.linalg.norm(predicted - annotated, axis=-1)
    scored = [i for i in range(21) if i not in EAR_LOBES]
    return 100 * np.nanmean(distance[:, scored], axis=1) / size


def yaw_bin(yaw_degrees: Float[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Return the index of each absolute yaw's bin in YAW_BINS_DEGREES."""
    return np.searchsorted([30.0, 60.0], yaw_degrees, side="left").astype(np.int64)


def mean_by_bin(
    errors: Float[np.ndarray, "N"], bins: Int[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "3"], float]:
    """Return the mean error of each bin and the mean of those three means; NaN if one is empty."""
    means = np.array([errors[bins == b].mean() if (bins == b).any() else np.nan for b in range(3)])
    return means, float(means.mean())
