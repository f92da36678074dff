"""Closing the holes of a triangle mesh, so that it bounds a volume."""

import numpy as np
from jaxtyping import Float, Int


def closed(
    positions: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "T 3"]
) -> Int[np.ndarray, "S 3"]:
    """Return the triangles of a mesh and of caps over its holes; every edge then has two triangles.

    Each hole gets the cap of least area (Barequet and Sharir, "Filling gaps in the boundary of a
    polyhedron", 1995). No vertices are added.

    Raises:
        ValueError: an edge has more than two triangles, or two holes meet in a vertex.
    """
    edges = {tuple(sorted(edge)) for edge in _edges(triangles).tolist()}
    caps = [_cap(positions, loop, edges) for loop in boundary_loops(triangles)]
    return np.concatenate([triangles, *caps])


def boundary_loops(triangles: Int[np.ndarray, "T 3"]) -> list[list[int]]:
    """Return the vertices around each hole, in the direction of the triangles at its border.

    Raises:
        ValueError: an edge has more than two triangles, or two holes meet in a vertex.
    """
    edges = _edges(triangles)
    _, place, count = np.unique(
        np.sort(edges, axis=-1), axis=0, return_inverse=True, return_counts=True
    )
    border = edges[count[place.reshape(-1)] == 1]
    following = dict(border.tolist())
    if count.max(initial=0) > 2 or len(following) < len(border):
        raise ValueError(
            "The mesh cannot be closed: an edge has more than two triangles, or holes meet in a "
            "vertex. Give a mesh whose holes are apart."
        )
    loops: list[list[int]] = []
    while following:
        vertex = next(iter(following))
        loop: list[int] = []
        while vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops


def _edges(triangles: Int[np.ndarray, "T 3"]) -> Int[np.ndarray, "E 2"]:
    """Return the three directed edges of each triangle."""
    return triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)


def _cap(
    positions: Float[np.ndarray, "V 3"], loop: list[int], edges: set[tuple[int, ...]]
) -> Int[np.ndarray, "N 3"]:
    """Return triangles over a hole, in the direction that closes it.

    Args:
        positions: of all vertices.
        loop: the vertices around the hole.
        edges: of the mesh, the smaller vertex first; inside the hole, the cap has none of them.
    """
    points = positions[loop].astype(np.float64)
    count = len(loop)
    area = np.zeros((count, count))
    best = np.zeros((count, count), int)
    for gap in range(2, count):
        for first in range(count - gap):
            last = first + gap
            between = np.arange(first + 1, last)
            corner = points[between]
            own = np.cross(corner - points[first], points[last] - points[first])
            total = area[first, between] + area[between, last] + np.linalg.norm(own, axis=-1) / 2
            chosen = int(total.argmin())
            ends = tuple(sorted((loop[first], loop[last])))
            if gap < count - 1 and ends in edges:
                total = total + np.inf
            area[first, last], best[first, last] = total[chosen], between[chosen]
    triangles: list[tuple[int, int, int]] = []
    waiting = [(0, count - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first > 1:
            middle = int(best[first, last])
            triangles.append((loop[last], loop[middle], loop[first]))
            waiting += [(first, middle), (middle, last)]
    return np.array(triangles)
