"""Lips that are closed at rest."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from .topology import Skin, edge_loop, hops_from

# Base vertex at the middle of the lower lip, on the loop along which the lips touch.
_LIP_LOOP_START = 494
_REACH = 0.006


def lip_rims(
    skin: Skin, body_quads: NDArray[np.int64], base: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the control vertices of the lower and the upper lip that touch the other lip."""
    loop = np.array(edge_loop(body_quads, _LIP_LOOP_START, base))
    order = np.searchsorted(skin.base_index, loop)
    across = base[loop, 0]
    left, right = int(across.argmax()), int(across.argmin())
    lower = np.concatenate([order[:left], order[right + 1 :]])
    return lower, order[left + 1 : right]


@dataclass(frozen=True)
class Lips:
    """The data that close the two lips."""

    lower: NDArray[np.int64]
    """Control vertices of the lower lip that touch the upper lip."""
    upper: NDArray[np.int64]
    """The same for the upper lip."""
    share: NDArray[np.float64]
    """(S,) share of the gap by which each vertex rises: 1/2 on the lower lip, -1/2 on the upper."""

    def gap(self, fine: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the height of the opening at positions `across` (x), from rim points of `fine`."""
        sides = []
        for rim in (self.lower, self.upper):
            rim = rim[np.argsort(fine[rim, 0])]
            sides.append(np.interp(across, fine[rim, 0], fine[rim, 1]))
        return (sides[1] - sides[0]) * (np.abs(across) < np.abs(fine[self.lower, 0]).max())


def lips_of(skin: Skin, body_quads: NDArray[np.int64], base: NDArray[np.float64]) -> Lips:
    """Return the lips of the base mesh."""
    lower, upper = lip_rims(skin, body_quads, base)
    points, quads = base[skin.base_index], skin.quads
    a = np.concatenate([quads[:, k] for k in range(4)])
    b = np.concatenate([quads[:, (k + 1) % 4] for k in range(4)])
    lengths = np.linalg.norm(points[a] - points[b], axis=1)
    graph = coo_matrix((lengths, (a, b)), shape=(len(points), len(points))).tocsr()
    graph = graph.maximum(graph.T)
    to_lower = dijkstra(graph, directed=False, indices=lower, min_only=True)
    to_upper = dijkstra(graph, directed=False, indices=upper, min_only=True)
    fade = np.exp(-((np.minimum(to_lower, to_upper) / _REACH) ** 2))
    return Lips(lower, upper, np.where(to_lower < to_upper, 0.5, -0.5) * fade)


def close_lips(
    points: NDArray[np.float64], skin: Skin, lips: Lips, *, gap: float = 0.0002
) -> NDArray[np.float64]:
    """Return control vertices (S, 3) with a gap of `gap` metres between the subdivided lips."""
    result = points.copy()
    for _ in range(4):
        fine = skin.refine(result)
        inside = np.abs(points[:, 0]) < np.abs(fine[lips.lower, 0]).max()
        result[:, 1] += (lips.gap(fine, points[:, 0]) - gap) * inside * lips.share
    return result


def keep_lips_closed(
    modes: NDArray[np.float64], points: NDArray[np.float64], lips: Lips
) -> NDArray[np.float64]:
    """Return modes (K, S, 3) that do not open the lips of the head `points` (S, 3)."""
    result = modes.copy()
    across = points[:, 0]
    for mode in result:
        moved = np.c_[across, mode[:, 1]]
        mode[:, 1] += lips.gap(moved, across) * lips.share
    return result


def shrink_bag(points: NDArray[np.float64], skin: Skin, lips: Lips) -> NDArray[np.float64]:
    """Return control vertices (S, 3) with a smaller mouth cavity, away from the cheeks.

    The mouth cavity of the base mesh is so near the skin that it would intersect it on many faces.
    """
    quads = skin.quads[skin.part_of_quad == 3]
    outside = np.unique(skin.quads[skin.part_of_quad == 0])
    hops = hops_from(quads, len(points), np.intersect1d(np.unique(quads), outside))
    depth = np.clip(hops / 4, 0, 1)[:, None]
    middle = np.array([0.0, points[np.concatenate([lips.lower, lips.upper]), 1].mean(), 0.0])
    smaller = middle + (points - middle) * (0.84, 0.68, 0.94)
    return points + depth * (smaller - points)
