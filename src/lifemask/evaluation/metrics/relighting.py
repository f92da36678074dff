"""Error of photos predicted under another light, as albedo times the cosine to the lamp."""

import numpy as np
from jaxtyping import Bool, Float

DARKEST = 8.0
"""Smallest grey value by which errors are divided."""


def weighted_median(values: Float[np.ndarray, "N"], weights: Float[np.ndarray, "N"]) -> float:
    """Return the weighted median: half of the weight lies below it."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def relative_error(
    predicted: Float[np.ndarray, "H W"],
    photo: Float[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the median over the mask of |k predicted - photo| / max(photo, 8), percent.

    The scale k minimises the sum of |k predicted - photo| over pixels with a positive prediction.

    Args:
        predicted: any unit; zero means no light or no prediction.
        photo: grey values 0 to 255.
        mask: the pixels to measure.
    """
    p, truth = predicted[mask], photo[mask]
    lit = p > 1e-3 * max(p.max(initial=0.0), 1e-12)
    scale = weighted_median(truth[lit] / p[lit], p[lit]) if lit.any() else 0.0
    return 100 * float(np.median(np.abs(scale * p - truth) / np.maximum(truth, DARKEST)))


def lambertian(
    albedo: Float[np.ndarray, "H W"],
    normals: Float[np.ndarray, "H W 3"],
    direction: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "H W"]:
    """Return albedo times max(0, n . l), the picture with a lamp in this direction."""
    return albedo * np.maximum(normals @ direction, 0)


def albedo_by_division(
    photo: Float[np.ndarray, "H W"],
    normals: Float[np.ndarray, "H W 3"],
    direction: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "H W"]:
    """Return the photo divided by the cosine to its known lamp, or by 0.1 if that is larger."""
    return photo / np.maximum(normals @ direction, 0.1)
