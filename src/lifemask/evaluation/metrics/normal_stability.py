"""How much normals change with the light, relative to how much they differ between people."""

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.metrics.normal_error import angle_degrees


def changes_with_light(
    frontal: Float[np.ndarray, "H W 3"],
    others: list[Float[np.ndarray, "H W 3"]],
    skin: Bool[np.ndarray, "H W"],
) -> list[float]:
    """Return the median angle over skin to the normals under frontal light, one per other light.

    Args:
        frontal: unit normals, zero where there is no prediction: such a pixel counts 90 degrees.
        others: the same person's normals under other lights.
        skin: where to measure.
    """
    return [float(np.median(angle_degrees(o, frontal)[skin])) for o in others]


def difference_between_people(
    frontal: Float[np.ndarray, "N H W 3"], skin: Bool[np.ndarray, "N H W"]
) -> Float[np.ndarray, "N N"]:
    """Return the median angle over common skin between each two people; NaN on the diagonal."""
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

    NaN where everyone gets the same normals. Rows and columns may repeat people (as a bootstrap
    does): a person is never compared to themselves, because that entry is NaN.
    """
    pairs = between_people[np.tril_indices(len(between_people), -1)]
    difference = np.nanmedian(pairs) if np.isfinite(pairs).any() else 0.0
    return float(np.median(own_changes) / difference) if difference > 0 else float("nan")
