"""Smooth deformations of the face that no artist drew: leading modes of a Gaussian process.

Luethi, Gerig, Jud and Vetter, "Gaussian process morphable models", 2018. The covariance of two
points is a sum of squared exponentials of several lengths times a window that keeps the modes on
the face, plus (or minus) its mirror image, so that every mode is symmetric or antisymmetric.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProcessConfig:
    """Lengths and sizes of the deformations."""

    lengths_metres: tuple[float, ...] = (0.045, 0.022, 0.011)
    """Distance over which displacements agree."""
    deviations_metres: tuple[float, ...] = (0.0010, 0.0006, 0.0004)
    """Standard deviation of each length's displacement where the window is one."""
    symmetric_modes: int = 120
    """Modes that move both sides alike."""
    antisymmetric_modes: int = 60
    """Modes that move them in opposite ways."""


def gaussian_process_modes(
    points: Array, mirror: NDArray[np.int64], window: Array, config: GaussianProcessConfig
) -> Array:
    """Return (K, N, 3) displacements in metres per standard deviation, symmetric modes first.

    Args:
        points: (N, 3) vertices of the symmetric mean, metres.
        mirror: (N,) the vertex on the other side.
        window: (N,) 0 to 1, symmetric: where the modes may act.
        config: lengths, sizes and counts.
    """
    active = np.flatnonzero(window > 1e-3)
    place, weight = points[active], window[active]
    local = np.full(len(points), -1)
    local[active] = np.arange(len(active))
    partner = local[mirror[active]]
    square = ((place[:, None] - place[None]) ** 2).sum(-1)
    kernel = np.zeros_like(square)
    for length, deviation in zip(config.lengths_metres, config.deviations_metres, strict=True):
        kernel += deviation**2 * np.exp(-square / (2 * length**2))
    kernel *= weight[:, None] * weight[None]
    # Components across the mirror plane change sign under reflection, the other two do not.
    even, odd = (kernel + kernel[:, partner]) / 2, (kernel - kernel[:, partner]) / 2
    leading = {id(matrix): _leading(matrix, 140) for matrix in (even, odd)}
    found: list[tuple[Array, Array]] = []
    for symmetric, count in ((True, config.symmetric_modes), (False, config.antisymmetric_modes)):
        pieces: list[tuple[float, int, Array]] = []
        for axis in range(3):
            is_even = symmetric != (axis == 0)
            values, vectors = leading[id(even if is_even else odd)]
            pieces += [(float(v), axis, vectors[:, k]) for k, v in enumerate(values)]
        pieces.sort(key=lambda piece: -piece[0])
        for value, axis, vector in pieces[:count]:
            mode = np.zeros((len(active), 3))
            mode[:, axis] = vector * np.sqrt(max(value, 0))
            found.append((np.array([value]), mode))
    result = np.zeros((len(found), len(points), 3))
    for row, (_, mode) in zip(result, found, strict=True):
        row[active] = mode
    return result


def _leading(matrix: Array, count: int) -> tuple[Array, Array]:
    from scipy.sparse.linalg import eigsh

    start = np.cos(np.arange(len(matrix)))
    values, vectors = eigsh((matrix + matrix.T) / 2, k=count, v0=start)
    order = np.argsort(-values)
    vectors = vectors[:, order]
    # The sign of an eigenvector is arbitrary: fix it, so that builds agree.
    top = np.abs(vectors).argmax(0)
    return values[order], vectors * np.sign(vectors[top, np.arange(count)])
