"""Distance between points in the image relative to the face's size: NME."""

import numpy as np
from jaxtyping import Float

INNER = slice(17, 68)
"""iBUG points without the jaw; jaw points are defined on the skin by some, on its outline by others."""


def box_size(points: Float[np.ndarray, "N 2"]) -> float:
    """Return the square root of the area of the points' tight box, pixels."""
    return float(np.sqrt(np.prod(points.max(0) - points.min(0))))


def box_error(
    predicted: Float[np.ndarray, "N 2"],
    true: Float[np.ndarray, "N 2"],
    landmarks68: Float[np.ndarray, "68 2"],
) -> float:
    """Return the mean distance in percent of the size of the true 68 points' box.

    Args:
        predicted: pixels.
        true: the same points, hidden ones too.
        landmarks68: the true iBUG points, whose box is the unit for sparse and dense errors alike.
    """
    distance = np.linalg.norm(predicted.astype(np.float64) - true, axis=-1)
    return 100 * float(distance.mean()) / box_size(landmarks68)
