"""Lips that meet at rest."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from .topology import Skin, edge_loop

# Where the loop along which the lips touch crosses the middle of the lower lip.
_LIP_LOOP_START = 494
_REACH = 0.006


def lip_rims(
    skin: Skin, body_quads: NDArray[np.int64], base: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the control vertices where the (lower, upper) lip touches the other one."""
    loop = np.array(edge_loop(body_quads, _LIP_LOOP_START, base))
    order = np.searchsorted(skin.base_index, loop)
    across = base[loop, 0]
    left, right = int(across.argmax()), int(across.argmin())
    lower = np.concatenate([order[:left], order[right + 1 :]])
    return lower, order[left + 1 : right]


def close_lips(
    points: NDArray[np.float64],
    skin: Skin,
    lower: NDArray[np.int64],
    upper: NDArray[np.int64],
    *,
    gap: float = 0.0002,
) -> NDArray[np.float64]:
    """Return control vertices (S, 3) whose subdivided lips are `gap` metres apart."""
    quads = skin.quads
    a = np.concatenate([quads[:, k] for k in range(4)])
    b = np.concatenate([quads[:, (k + 1) % 4] for k in range(4)])
    lengths = np.linalg.norm(points[a] - points[b], axis=1)
    shape = (len(points), len(points))
    graph = coo_matrix((lengths, (a, b)), shape=shape).tocsr()
    graph = graph.maximum(graph.T)
    to_lower = dijkstra(graph, directed=False, indices=lower, min_only=True)
    to_upper = dijkstra(graph, directed=False, indices=upper, min_only=True)
    is_lower = to_lower < to_upper
    fade = np.exp(-((np.minimum(to_lower, to_upper) / _REACH) ** 2))
    result = points.copy()
    for _ in range(4):
        fine = skin.refine(result)
        sides = []
        for rim in (lower, upper):
            rim = rim[np.argsort(fine[rim, 0])]
            sides.append(np.interp(points[:, 0], fine[rim, 0], fine[rim, 1]))
        excess = sides[1] - sides[0] - gap
        inside = np.abs(points[:, 0]) < np.abs(fine[lower, 0]).max()
        excess *= inside
        result[:, 1] += np.where(is_lower, 0.5, -0.5) * excess * fade
    return result
