"""The head's vertices and quads: the cropped skin with sockets and mouth cavity, and its seams."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from lifemask.geometry.subdivision import Subdivision, catmull_clark

from .makehuman import BaseMesh

# A vertex of the front midline; its edge loop goes once around the lower neck.
_NECK_LOOP_START = 1522


@dataclass(frozen=True)
class Skin:
    """The cropped hm08 skin: control mesh and level-1 mesh."""

    base_index: NDArray[np.int64]
    """(S,) base vertex of every control vertex, ascending."""
    quads: NDArray[np.int64]
    """(Q, 4) control quads."""
    part_of_quad: NDArray[np.int64]
    """(Q,) 0 outer skin, 1 left eye socket, 2 right eye socket, 3 mouth cavity."""
    old_uv_quads: NDArray[np.int64]
    """(Q, 4) indices into the body's own texture coordinates."""
    mirror: NDArray[np.int64]
    """(S,) control vertex on the other side."""
    subdivision: Subdivision
    """From the control mesh to level 1."""

    @property
    def fine_quads(self) -> NDArray[np.int64]:
        """(4 Q, 4) level-1 quads."""
        return self.subdivision.quads.numpy()

    def refine(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return level-1 values (V, C) of control values (S, C)."""
        return self.subdivision.apply(torch.from_numpy(np.ascontiguousarray(values))).numpy()

    @property
    def fine_part(self) -> NDArray[np.int64]:
        """(4 Q,) part of each level-1 quad."""
        return np.repeat(self.part_of_quad, 4)


def edge_loop(quads: NDArray[np.int64], start: int, positions: NDArray[np.float64]) -> list[int]:
    """Return the closed loop of vertices that starts at `start` to the left and goes straight.

    Raises:
        ValueError: the loop cannot go straight on at a vertex.
    """
    faces_at: dict[int, list[set[int]]] = defaultdict(list)
    neighbours: dict[int, set[int]] = defaultdict(set)
    for quad in quads.tolist():
        for k in range(4):
            faces_at[quad[k]].append(set(quad))
            neighbours[quad[k]].add(quad[(k + 1) % 4])
            neighbours[quad[(k + 1) % 4]].add(quad[k])
    loop = [start, max(neighbours[start], key=lambda v: positions[v, 0])]
    while True:
        here, last = loop[-1], loop[-2]
        beside = set().union(*(face for face in faces_at[here] if last in face))
        ahead = neighbours[here] - beside
        if len(ahead) != 1:
            raise ValueError(f"The edge loop from {start} stops at vertex {here}.")
        following = ahead.pop()
        if following == start:
            return loop
        loop.append(following)


def quad_components(quads: NDArray[np.int64], cut: set[tuple[int, int]]) -> NDArray[np.int64]:
    """Return labels of quads that are connected by edges not in `cut` (sorted vertex pairs)."""
    owner: dict[tuple[int, int], int] = {}
    links = []
    for index, quad in enumerate(quads.tolist()):
        for k in range(4):
            edge = (min(quad[k], quad[k - 1]), max(quad[k], quad[k - 1]))
            if edge in cut:
                continue
            if edge in owner:
                links.append((owner[edge], index))
            owner[edge] = index
    a, b = np.array(links).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(len(quads), len(quads)))
    return connected_components(graph, directed=False)[1]


def crop_skin(base: BaseMesh) -> Skin:
    """Return the skin of the head, cut from the body along a closed edge loop of the neck."""
    loop = edge_loop(base.body_quads, _NECK_LOOP_START, base.vertices)
    ring = {(min(a, b), max(a, b)) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}
    label = quad_components(base.body_quads, ring)
    height = base.vertices[base.body_quads, 1].mean(1)
    kept = label == label[height.argmax()]
    old_quads, old_uv = base.body_quads[kept], base.body_uv_quads[kept]
    index = np.unique(old_quads)
    local = np.full(len(base.vertices), -1)
    local[index] = np.arange(len(index))
    quads = local[old_quads]
    points = base.vertices[index]

    island = quad_components(old_uv, set())
    part = np.zeros(len(quads), int)
    for name in np.unique(island):
        inside = points[np.unique(quads[island == name])]
        low, high = inside.min(0), inside.max(0)
        if high[1] - low[1] < 0.04 and high[0] < 0.06 and low[0] > 0:
            part[island == name] = 1
        elif high[1] - low[1] < 0.04 and low[0] > -0.06 and high[0] < 0:
            part[island == name] = 2
        elif high[0] < 0.05 and high[1] - low[1] < 0.1:
            part[island == name] = 3
    mirror = local[base.mirror[index]]
    assert (mirror >= 0).all()
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    subdivision = catmull_clark(torch.from_numpy(quads), len(index))
    return Skin(index, quads, part, old_uv, mirror, subdivision)


def mirror_by_position(points: NDArray[np.float64], tolerance: float = 1e-5) -> NDArray[np.int64]:
    """Return the vertex at the mirrored position of every vertex of a symmetric point set (V, 3).

    Raises:
        ValueError: the points are not symmetric within `tolerance` metres or not distinct.
    """
    distance, mirror = cKDTree(points).query(points * [-1, 1, 1])
    if distance.max() > tolerance or (mirror[mirror] != np.arange(len(mirror))).any():
        raise ValueError(f"The mesh is not symmetric: {distance.max():.2g} m off.")
    return np.asarray(mirror)


def mirror_diagonals(
    points: NDArray[np.float64],
    mirror: NDArray[np.int64],
    quads: NDArray[np.int64],
    uv_quads: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the quads; those on the right start at the mirror vertex of their left quad's start.

    The triangles (0, 1, 2), (0, 2, 3) are then mirror images too.
    """
    quads, uv_quads = quads.copy(), uv_quads.copy()
    index = {tuple(sorted(quad)): k for k, quad in enumerate(quads.tolist())}
    for k in np.where(points[quads, 0].mean(1) < -1e-9)[0]:
        twin = quads[index[tuple(sorted(mirror[quads[k]].tolist()))]]
        turn = -int(np.where(quads[k] == mirror[twin[0]])[0][0])
        quads[k], uv_quads[k] = np.roll(quads[k], turn), np.roll(uv_quads[k], turn)
    return quads, uv_quads


def refine_mirror(skin: Skin) -> NDArray[np.int64]:
    """Return the level-1 mirror map from the control mirror map."""
    vertices, quads = len(skin.base_index), skin.quads
    quad_key = {tuple(sorted(quad)): k for k, quad in enumerate(quads.tolist())}
    following = np.roll(quads, -1, 1)
    keys = np.minimum(quads, following) * vertices + np.maximum(quads, following)
    unique = np.unique(keys)
    a, b = skin.mirror[unique // vertices], skin.mirror[unique % vertices]
    edge = np.searchsorted(unique, np.minimum(a, b) * vertices + np.maximum(a, b))
    face = np.array([quad_key[tuple(sorted(skin.mirror[quad].tolist()))] for quad in quads])
    return np.concatenate([skin.mirror, vertices + edge, vertices + len(unique) + face])


def border_loop(quads: NDArray[np.int64]) -> list[int]:
    """Return the vertices of the single closed border of a patch of quads, in order.

    Raises:
        ValueError: the patch has several borders.
    """
    edges = {(a, b) for q in quads.tolist() for a, b in zip(q, q[1:] + q[:1], strict=True)}
    following = {a: b for a, b in edges if (b, a) not in edges}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following):
        raise ValueError("The patch has more than one border.")
    return loop


def hops_from(
    quads: NDArray[np.int64], count: int, sources: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the number of edges from the nearest source vertex; -1 if it is unreachable."""
    a = np.concatenate([quads[:, k] for k in range(4)])
    b = np.concatenate([quads[:, (k + 1) % 4] for k in range(4)])
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)).tocsr()
    distance = dijkstra(graph, directed=False, indices=sources, unweighted=True, min_only=True)
    return np.where(np.isfinite(distance), distance, -1).astype(int)
