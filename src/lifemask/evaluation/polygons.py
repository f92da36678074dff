"""Which points lie inside a polygon."""

import numpy as np
from jaxtyping import Bool, Float


def inside_polygon(
    points: Float[np.ndarray, "N 2"], corners: Float[np.ndarray, "C 2"]
) -> Bool[np.ndarray, "N"]:
    """Return which points lie inside a closed polygon, by the even-odd rule."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0))
    return inside
