"""Angle between predicted and true normals, and the mean true normals of the other people."""

import numpy as np
from jaxtyping import Bool, Float


def unit(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Return vectors of length one in float64; a zero vector stays zero."""
    vectors = vectors.astype(np.float64)
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)


def angle_degrees(
    first: Float[np.ndarray, "*batch 3"], second: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle between unit vectors, degrees."""
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1, 1)))


def mean_of_others(
    maps: Float[np.ndarray, "N H W C"], masks: Bool[np.ndarray, "N H W"]
) -> tuple[Float[np.ndarray, "N H W C"], Bool[np.ndarray, "N H W"]]:
    """Return for each person the mean map of the other people, and where it is reliable.

    It is reliable where the number of other people with a value is at least half that of all people.
    """
    weights = masks[..., None].astype(np.float64)
    count = masks.sum(0) - masks.astype(np.int64)
    others = (maps * weights).sum(0) - maps * weights
    return others / np.maximum(count, 1)[..., None], count >= len(maps) / 2


def median_normal_angle(
    predicted: Float[np.ndarray, "H W 3"],
    true: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the median angle over the mask in degrees; a pixel without prediction counts 90.

    Args:
        predicted: normals of any length; shorter than one half means no prediction.
        true: unit normals.
        mask: the pixels to measure.
    """
    answered = np.linalg.norm(predicted, axis=-1) > 0.5
    angles = np.where(answered, angle_degrees(unit(predicted), true), 90.0)
    return float(np.median(angles[mask]))
