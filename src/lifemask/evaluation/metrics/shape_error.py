"""Error of a predicted surface in metres, after the best similarity transform."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from lifemask.geometry.alignment import align_points
from lifemask.registration import TriangleSurface

Motion = Callable[[Float[np.ndarray, "N 3"]], Float[np.ndarray, "N 3"]]


def similarity(source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"]) -> Motion:
    """Return the best motion with scale from source to target (Umeyama, 1991)."""
    scale, rotation, shift = (
        part.numpy()
        for part in align_points(
            torch.from_numpy(source.astype(np.float64)),
            torch.from_numpy(target.astype(np.float64)),
            with_scale=True,
        )
    )
    return lambda points: scale * points @ rotation.T + shift


def corresponding_error(
    predicted: Float[np.ndarray, "N 3"], true: Float[np.ndarray, "N 3"]
) -> float:
    """Return the mean distance of corresponding points after the best similarity transform.

    It includes sliding along the surface, unlike the distance to the closest point.
    """
    moved = similarity(predicted, true)(predicted.astype(np.float64))
    return float(np.linalg.norm(moved - true, axis=1).mean())


def surface_error(
    vertices: Float[np.ndarray, "V 3"],
    surface: TriangleSurface,
    true: Float[np.ndarray, "N 3"],
    *,
    start: Motion,
    iterations: int = 5,
) -> float:
    """Return the RMS distance from true points to a predicted surface, aligned by ICP with scale.

    Besl and McKay, "A method for registration of 3-D shapes", 1992.

    Args:
        vertices: vertices of the predicted surface, metres.
        surface: its triangles.
        true: points of the true surface, metres.
        start: motion of the surface before the first search for closest points, from landmarks.
        iterations: number of alignments.
    """
    placed = start(vertices.astype(np.float64))
    found = surface.closest(placed, true)
    for _ in range(iterations):
        placed = similarity(found.position, true)(placed)
        found = surface.closest(placed, true)
    return float(np.sqrt(np.mean(found.distance**2)))
