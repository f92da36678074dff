"""The head's own eyeballs, and lids and sockets that fit them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lifemask.morphable.eyes import eyeball_radius

# Angles of the rings from the pupil's centre, degrees; dense on pupil, iris and limbus.
_RINGS = (7.0, 14.0, 21.0, 27.0, 31.0, 36.0, 44.0, 55.0, 68.0, 84.0, 105.0, 130.0, 155.0)
_SEGMENTS = 24


def eyeball_mesh() -> tuple[
    NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]
]:
    """Return vertices (V, 3), quads, uv and uv quads of an eyeball at the origin with axis +Z.

    The texture shows the eyeball from the front. Its radius increases with the angle from the axis,
    to 0.8 of the island's radius at 70 degrees; uv in [-1, 1], x to the right, y up.
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
    # In the texture, the back pole lies on the rim in all directions, so each quad has a copy.
    uv_quads += [[back + j // 2, at(last, j + 2), at(last, j + 1), at(last, j)] for j in even]
    uv = np.concatenate([*flat, ring[1::2]])
    return directions * radius[:, None], np.array(quads), uv, np.array(uv_quads)


def _texture_radius(angle: float) -> float:
    knee = np.radians(70.0)
    if angle <= knee:
        return 0.8 * angle / knee
    return 0.8 + 0.2 * (angle - knee) / (np.pi - knee)


_LID_GAP = 0.00035
"""Distance between the lid at rest and the eyeball, metres."""


def surface_gap(points: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of points outside an eyeball at `centre` with optical axis +Z, metres."""
    offset = points - centre
    distance = np.linalg.norm(offset, axis=-1)
    cosine = torch.from_numpy(offset[..., 2] / distance)
    return distance - eyeball_radius(cosine).numpy()


def seat_eyeball(margin: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `centre` moved along Z, so that the middle of the lid margin lies on the eyeball."""
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
    """Return displacements (V, 3) that move the lid margin onto the eyeball and fade around it.

    The corners of the eye lie beside the eyeball and keep about half of their distance.
    """
    rim = points[margin]
    offset = rim - centre
    gap = surface_gap(rim, centre) - _LID_GAP
    corner = np.clip((np.abs(offset[:, 0]) - 0.007) / 0.006, 0, 1)
    wanted = gap * (1 - 0.6 * corner)
    move = -wanted[:, None] * offset / np.linalg.norm(offset, axis=1, keepdims=True)
    field = _spread(points, rim, move, reach)
    field[margin] = move
    return field


def keep_lids_seated(
    modes: NDArray[np.float64],
    eyes: NDArray[np.float64],
    points: NDArray[np.float64],
    margin: NDArray[np.int64],
    centre: NDArray[np.float64],
    *,
    reach: float = 0.006,
) -> NDArray[np.float64]:
    """Return the change (K, V, 3) of modes that keeps the lids' distance from the eyeball.

    Args:
        modes: (K, V, 3) displacements.
        eyes: (K, 3) displacement of this eyeball's centre.
        points: (V, 3) the mean head, metres.
        margin: vertices of the lid margin.
        centre: the eyeball's centre.
        reach: metres over which the change fades.
    """
    rim = points[margin]
    offset = rim - centre
    unit = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    corner = np.clip((np.abs(offset[:, 0]) - 0.007) / 0.006, 0, 1)
    away = ((modes[:, margin] - eyes[:, None]) * unit).sum(-1) * (1 - 0.6 * corner)
    change = -away[..., None] * unit
    fields = []
    for move in change:
        field = _spread(points, rim, move, reach)
        field[margin] = move
        fields.append(field)
    return np.stack(fields)


def _spread(
    points: NDArray[np.float64], rim: NDArray[np.float64], move: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """Return displacements of all points that follow the rim and fade with the distance from it."""
    near = np.where(cKDTree(rim).query(points)[0] < 3 * reach)[0]
    distance = np.linalg.norm(points[near][:, None] - rim[None], axis=-1)
    weight = np.exp(-((distance / 0.003) ** 2) / 2) + 1e-12
    blended = (weight @ move) / weight.sum(1, keepdims=True)
    field = np.zeros_like(points)
    field[near] = blended * np.exp(-((distance.min(1) / reach) ** 2))[:, None]
    return field


def socket_shell(
    points: NDArray[np.float64],
    rings: NDArray[np.int64],
    margin: NDArray[np.int64],
    centre: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return socket vertices moved just below the eyeball's surface; ring 1 only half-way.

    Args:
        points: (V, 3) all skin control vertices.
        rings: (V,) number of edges from the lid margin inside this socket; -1 outside it.
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


@dataclass(frozen=True)
class LidClosure:
    """The opening of the left eye, and the vertices that close it."""

    upper: NDArray[np.int64]
    """Vertices of the upper lid's margin, from the nose outwards, both corners included."""
    lower: NDArray[np.int64]
    """The same for the lower lid."""
    share: NDArray[np.float64]
    """(V,) share of a change of the opening that each vertex follows; 1 on the upper margin."""

    def opening(
        self, points: NDArray[np.float64], across: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return upper minus lower margin (N, 3) at the positions `across` (x); 0 past the corners."""
        sides = [
            np.stack([np.interp(across, points[rim, 0], points[rim, k]) for k in range(3)], -1)
            for rim in (self.upper, self.lower)
        ]
        return sides[0] - sides[1]

    def weights(
        self, points: NDArray[np.float64], across: NDArray[np.float64], margin: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return weights (N, M): weights @ values[margin] is upper minus lower at `across`."""
        unit = np.zeros((len(margin), len(points)))
        unit[np.arange(len(margin)), margin] = 1
        columns = [
            np.interp(across, points[self.upper, 0], row[self.upper])
            - np.interp(across, points[self.lower, 0], row[self.lower])
            for row in unit
        ]
        return np.stack(columns, -1)


def lid_closure(
    loop: list[int], points: NDArray[np.float64], outside: NDArray[np.bool_]
) -> LidClosure:
    """Return the closure of the left eye from its margin loop (V indices in order).

    Args:
        loop: closed border of the eye's opening.
        points: (V, 3) head at rest.
        outside: (V,) vertices that may move with the lid.
    """
    ring = np.array(loop)
    inner = int(points[ring, 0].argmin())
    ring = np.roll(ring, -inner)
    outer = int(points[ring, 0].argmax())
    one, other = ring[: outer + 1], np.concatenate([ring[outer:], ring[:1]])[::-1]
    upper, lower = (one, other) if points[one, 1].mean() > points[other, 1].mean() else (other, one)
    upper, lower = _increasing(points, upper), _increasing(points, lower)
    to_upper, to_lower = (cKDTree(points[rim]).query(points)[0] for rim in (upper, lower))
    share = np.exp(-((to_upper / 0.006) ** 2)) * (to_upper <= to_lower) * outside
    # Lower lids do not move. Beside the corners both lids are near, so the change fades there.
    width = points[upper[-1], 0] - points[upper[0], 0]
    beside = np.maximum(points[upper[0], 0] - points[:, 0], points[:, 0] - points[upper[-1], 0])
    share *= np.clip(1 - beside / (0.15 * width), 0, 1)
    return LidClosure(upper, lower, share)


def _increasing(points: NDArray[np.float64], rim: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the vertices of the rim with increasing x, so that the rim is a function of x."""
    kept = [rim[0]]
    for vertex in rim[1:-1]:
        if points[kept[-1], 0] + 1e-5 < points[vertex, 0] < points[rim[-1], 0] - 1e-5:
            kept.append(vertex)
    return np.array([*kept, rim[-1]])
