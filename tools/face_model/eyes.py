"""Eyeballs of our own, and lids and sockets that fit them."""

import numpy as np
import torch
from numpy.typing import NDArray

from lifemask.morphable.eyes import eyeball_radius

# Angles of the rings from the pupil's centre, degrees: dense over pupil, iris and limbus.
_RINGS = (7.0, 14.0, 21.0, 27.0, 31.0, 36.0, 44.0, 55.0, 68.0, 84.0, 105.0, 130.0, 155.0)
_SEGMENTS = 24


def eyeball_mesh() -> tuple[
    NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]
]:
    """Return an eyeball that looks along +Z about the origin: vertices (V, 3), quads, uv, uv quads.

    The texture is the view from the front, unrolled: its radius grows with the angle from the
    axis, 0.8 of the island's radius at 70 degrees; uv in [-1, 1], x to the right, y up.
    """
    angles = np.radians(_RINGS)
    turn = 2 * np.pi * np.arange(_SEGMENTS) / _SEGMENTS
    ring = np.stack([np.cos(turn), np.sin(turn)], -1)
    unit, flat = [np.array([[0.0, 0.0, 1.0]])], [np.zeros((1, 2))]
    for angle in angles:
        unit.append(np.c_[np.sin(angle) * ring, np.full(_SEGMENTS, np.cos(angle))])
        flat.append(_texture_radius(angle) * ring)
    unit.append(np.array([[0.0, 0.0, -1.0]]))
    directions = np.concatenate(unit)
    radius = eyeball_radius(torch.from_numpy(directions[:, 2])).numpy()
    last, back = len(_RINGS) - 1, len(directions) - 1

    def at(k: int, j: int) -> int:
        return 1 + k * _SEGMENTS + j % _SEGMENTS

    every, even = range(_SEGMENTS), range(0, _SEGMENTS, 2)
    quads = [[0, at(0, j), at(0, j + 1), at(0, j + 2)] for j in even]
    for k in range(last):
        quads += [[at(k, j), at(k + 1, j), at(k + 1, j + 1), at(k, j + 1)] for j in every]
    uv_quads = [list(quad) for quad in quads]
    quads += [[back, at(last, j + 2), at(last, j + 1), at(last, j)] for j in even]
    # In the texture the back pole lies on the rim in every direction at once: one copy per quad.
    uv_quads += [[back + j // 2, at(last, j + 2), at(last, j + 1), at(last, j)] for j in even]
    uv = np.concatenate([*flat, ring[1::2]])
    return directions * radius[:, None], np.array(quads), uv, np.array(uv_quads)


def _texture_radius(angle: float) -> float:
    knee = np.radians(70.0)
    if angle <= knee:
        return 0.8 * angle / knee
    return 0.8 + 0.2 * (angle - knee) / (np.pi - knee)


_LID_GAP = 0.00035
"""Distance of a resting lid from the eyeball, metres."""


def surface_gap(points: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far points lie outside an eyeball at `centre` that looks ahead, metres."""
    offset = points - centre
    distance = np.linalg.norm(offset, axis=-1)
    cosine = torch.from_numpy(offset[..., 2] / distance)
    return distance - eyeball_radius(cosine).numpy()


def seat_eyeball(margin: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `centre` moved along Z until the middle of the lid margin rests on the eyeball."""
    middle = margin[np.abs(margin[:, 0] - centre[0]) < 0.006]
    seated = centre.copy()
    for _ in range(30):
        seated[2] += surface_gap(middle, seated).mean() - _LID_GAP
    return seated


def lid_correction(
    points: NDArray[np.float64],
    margin: NDArray[np.int64],
    centre: NDArray[np.float64],
    *,
    reach: float = 0.006,
) -> NDArray[np.float64]:
    """Return the displacement (V, 3) that lays the lid margin on the eyeball and fades around it.

    The corners of the eye lie beside the eyeball and keep about half of their distance.
    """
    rim = points[margin]
    offset = rim - centre
    gap = surface_gap(rim, centre) - _LID_GAP
    corner = np.clip((np.abs(offset[:, 0]) - 0.007) / 0.006, 0, 1)
    wanted = gap * (1 - 0.6 * corner)
    move = -wanted[:, None] * offset / np.linalg.norm(offset, axis=1, keepdims=True)
    distance = np.linalg.norm(points[:, None] - rim[None], axis=-1)
    weight = np.exp(-((distance / 0.003) ** 2) / 2) + 1e-12
    blended = (weight @ move) / weight.sum(1, keepdims=True)
    field = blended * np.exp(-((distance.min(1) / reach) ** 2))[:, None]
    field[margin] = move
    return field


def socket_shell(
    points: NDArray[np.float64],
    rings: NDArray[np.int64],
    margin: NDArray[np.int64],
    centre: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return socket vertices laid just under the eyeball's surface, ring 1 half-way to the margin.

    Args:
        points: (V, 3) all skin control vertices.
        rings: (V,) edges from the lid margin inside this socket, -1 outside it.
        margin: vertices with ring 0.
        centre: the eyeball's centre.
    """
    result = points.copy()
    offset = points - centre
    unit = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    inner = rings >= 2
    result[inner] = centre + 0.0109 * unit[inner]
    first = np.where(rings == 1)[0]
    nearest = margin[np.linalg.norm(unit[first][:, None] - unit[margin][None], axis=-1).argmin(1)]
    distance = np.linalg.norm(offset[nearest], axis=1)
    result[first] = centre + unit[first] * (0.45 * distance + 0.55 * 0.0111)[:, None]
    return result
