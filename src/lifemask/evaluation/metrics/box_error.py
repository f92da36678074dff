"""Normalised mean error (NME): distance between image points relative to the face's size."""

import numpy as np
from jaxtyping import Float

INNER = slice(17, 68)
"""iBUG points without the jaw; some programs fix jaw points on the skin, others on its outline."""


def box_size(points: Float[np.ndarray, "N 2"]) -> float:
    """Return the square root of the area of the points' bounding box, pixels."""
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
        landmarks68: the true iBUG points; their box is the unit for sparse and for dense errors.
    """
    distance = np.linalg.norm(predicted.astype(np.float64) - true, axis=-1)
    return 100 * float(distance.mean()) / box_size(landmarks68)
