"""Smooth deformations of the face besides the artists' targets: modes of a Gaussian process.

Luethi, Gerig, Jud and Vetter, "Gaussian process morphable models", 2018. The covariance of two
points is a sum of squared exponentials of several lengths times a window that limits the modes to
the face. Its mirror image is added or subtracted, so that every mode is symmetric or antisymmetric.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh
from scipy.spatial import KDTree

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProcessConfig:
    """Lengths and sizes of the deformations."""

    lengths_metres: tuple[float, ...] = (0.045, 0.022, 0.011)
    """Length scales over which displacements are correlated."""
    deviations_metres: tuple[float, ...] = (0.0010, 0.0006, 0.0004)
    """Standard deviation of each length's displacement where the window is one."""
    symmetric_modes: int = 240
    """Number of symmetric modes."""
    antisymmetric_modes: int = 120
    """Number of antisymmetric modes."""


def smooth_head_modes(
    control: Array,
    part_sizes: dict[str, int],
    mirror: NDArray[np.int64],
    eye_centres: Array,
    config: GaussianProcessConfig | None = None,
) -> tuple[Array, Array]:
    """Return smooth modes (K, C, 3) of all control vertices and (K, 2, 3) of the eyeball centres.

    Lashes follow the nearest skin. Each eyeball moves rigidly, by the mean of the skin around it.
    Teeth and tongue do not move.

    Args:
        control: (C, 3) mean control vertices in metres, part after part.
        part_sizes: number of control vertices of each part, in order; "skin" comes first.
        mirror: (C,) the control vertex on the other side.
        eye_centres: (2, 3) left, right, metres.
        config: lengths, sizes and counts.
    """
    skin = part_sizes["skin"]
    points = control[:skin]
    modes = gaussian_process_modes(
        points, mirror[:skin], face_window(points), config or GaussianProcessConfig()
    )
    stops = np.cumsum(list(part_sizes.values()))
    ranges = {
        name: slice(stop - size, stop)
        for (name, size), stop in zip(part_sizes.items(), stops, strict=True)
    }
    result = np.zeros((len(modes), len(control), 3))
    result[:, :skin] = modes
    _, nearest = KDTree(points).query(control[ranges["lashes"]])
    result[:, ranges["lashes"]] = modes[:, nearest]
    eyes = np.zeros((len(modes), 2, 3))
    for side, (name, centre) in enumerate(
        zip(("eyeball_left", "eyeball_right"), eye_centres, strict=True)
    ):
        distance = np.linalg.norm(points - centre, axis=1)
        around = (distance < 0.022) & (points[:, 2] > centre[2])
        eyes[:, side] = modes[:, around].mean(1)
        result[:, ranges[name]] = eyes[:, side, None]
    return result, eyes


def face_window(points: Array) -> Array:
    """Return 1 on the front of the face, smoothly decreasing to 0 at ears, scalp and neck.

    Args:
        points: (N, 3) vertices of the mean head in head space, metres.
    """
    x, y, z = points.T * 1e3
    return _fade(np.abs(x), 62, 82) * _fade(y, 55, 85) * _fade(-y, 100, 125) * _fade(-z, 35, 75)


def _fade(value: Array, start: float, stop: float) -> Array:
    t = np.clip((value - start) / (stop - start), 0, 1)
    return 1 - t * t * (3 - 2 * t)


def gaussian_process_modes(
    points: Array, mirror: NDArray[np.int64], window: Array, config: GaussianProcessConfig
) -> Array:
    """Return (K, N, 3) displacements in metres per standard deviation, symmetric modes first.

    Args:
        points: (N, 3) vertices of the symmetric mean, metres.
        mirror: (N,) the vertex on the other side.
        window: (N,) symmetric factor of the modes, 0 to 1.
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
    # A reflection changes the sign of the component across the mirror plane, but not of the others.
    even, odd = (kernel + kernel[:, partner]) / 2, (kernel - kernel[:, partner]) / 2
    leading = {"even": _leading(even, 140), "odd": _leading(odd, 140)}
    result = np.zeros((config.symmetric_modes + config.antisymmetric_modes, len(points), 3))
    row = 0
    for symmetric, count in ((True, config.symmetric_modes), (False, config.antisymmetric_modes)):
        pieces: list[tuple[float, int, Array]] = []
        for axis in range(3):
            values, vectors = leading["even" if symmetric != (axis == 0) else "odd"]
            pieces += [(float(v), axis, vectors[:, k]) for k, v in enumerate(values)]
        pieces.sort(key=lambda piece: -piece[0])
        for value, axis, vector in pieces[:count]:
            result[row, active, axis] = vector * np.sqrt(max(value, 0.0))
            row += 1
    return result


def _leading(matrix: Array, count: int) -> tuple[Array, Array]:
    start = np.cos(np.arange(len(matrix)))
    values, vectors = eigsh((matrix + matrix.T) / 2, k=count, v0=start)
    order = np.argsort(-values)
    vectors = vectors[:, order]
    # The sign of an eigenvector is arbitrary; it is fixed here, so that all builds agree.
    top = np.abs(vectors).argmax(0)
    return values[order], vectors * np.sign(vectors[top, np.arange(count)])
