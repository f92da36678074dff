"""Change of normals with the light, relative to their difference between people."""

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.metrics.normal_error import angle_degrees


def changes_with_light(
    frontal: Float[np.ndarray, "H W 3"],
    others: list[Float[np.ndarray, "H W 3"]],
    skin: Bool[np.ndarray, "H W"],
) -> list[float]:
    """Return the median angle in degrees over skin to the normals under frontal light, by light.

    Args:
        frontal: unit normals, zero where there is no prediction: such a pixel counts 90 degrees.
        others: the same person's normals under other lights.
        skin: the pixels to measure.
    """
    return [float(np.median(angle_degrees(o, frontal)[skin])) for o in others]


def difference_between_people(
    frontal: Float[np.ndarray, "N H W 3"], skin: Bool[np.ndarray, "N H W"]
) -> Float[np.ndarray, "N N"]:
    """Return the median angle in degrees over common skin of each pair; NaN on the diagonal."""
    count = len(frontal)
    result = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i):
            both = skin[i] & skin[j]
            angle = float(np.median(angle_degrees(frontal[i], frontal[j])[both]))
            result[i, j] = result[j, i] = angle
    return result


def stability(
    own_changes: Float[np.ndarray, "N L"], between_people: Float[np.ndarray, "N N"]
) -> float:
    """Return the median change over the median difference between people; 0 is perfect.

    It is NaN if all people have the same normals. Rows and columns may repeat people, as in a
    bootstrap: a person is never compared to themselves, because that entry is NaN.
    """
    pairs = between_people[np.tril_indices(len(between_people), -1)]
    difference = np.nanmedian(pairs) if np.isfinite(pairs).any() else 0.0
    return float(np.median(own_changes) / difference) if difference > 0 else float("nan")
