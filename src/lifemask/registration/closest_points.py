"""Closest points on triangle meshes, in numpy."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

Array = np.ndarray


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a triangle mesh, each with the distance to its query point."""

    triangle_index: Int[Array, "N"]
    """Triangle that contains the point."""
    barycentric: Float[Array, "N 3"]
    """Weights of that triangle's corners; they sum to one."""
    position: Float[Array, "N 3"]
    """The point, in the unit and axes of the mesh."""
    distance: Float[Array, "N"]
    """Distance to the query point, in the unit of the mesh."""


class TriangleSurface:
    """A fixed triangle topology that finds closest points for any vertex positions.

    Candidates are the triangles around the `neighbours` vertices nearest to the query; each is
    tested exactly. The result is the true closest point unless a triangle is much longer than its
    neighbours.
    """

    def __init__(
        self, triangles: Int[Array, "T 3"], vertex_count: int, *, neighbours: int = 6
    ) -> None:
        self.triangles = np.asarray(triangles, dtype=np.int64)
        self.neighbours = neighbours
        corner_vertex = self.triangles.reshape(-1)
        order = np.argsort(corner_vertex, kind="stable")
        counts = np.bincount(corner_vertex, minlength=vertex_count)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.used_vertices = np.flatnonzero(counts)
        width = int(counts.max())
        slot = starts[:-1, None] + np.arange(width)
        inside = np.arange(width) < counts[:, None]
        owner = order[np.minimum(slot, len(order) - 1)] // 3
        # Padding repeats the vertex's first triangle; repeated candidates change nothing.
        first = owner[:, :1]
        self.vertex_triangles = np.where(inside, owner, first)

    def candidates(
        self, vertices: Float[Array, "V 3"], queries: Float[Array, "N 3"]
    ) -> Int[Array, "N C"]:
        """Return the triangles around the vertices nearest to every query; some may repeat."""
        tree = KDTree(vertices[self.used_vertices])
        count = min(self.neighbours, len(self.used_vertices))
        _, nearest = tree.query(queries, k=count)
        nearest = self.used_vertices[np.asarray(nearest).reshape(len(queries), count)]
        return self.vertex_triangles[nearest].reshape(len(queries), -1)

    def closest(self, vertices: Float[Array, "V 3"], queries: Float[Array, "N 3"]) -> SurfacePoints:
        """Return the closest surface point to every query."""
        candidates = self.candidates(vertices, queries)
        corners = vertices[self.triangles[candidates]]
        barycentric = closest_barycentric(
            queries[:, None], corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
        )
        position = (barycentric[..., None] * corners).sum(-2)
        distance = np.linalg.norm(position - queries[:, None], axis=-1)
        best = distance.argmin(1)
        row = np.arange(len(queries))
        return SurfacePoints(
            triangle_index=candidates[row, best],
            barycentric=barycentric[row, best],
            position=position[row, best],
            distance=distance[row, best],
        )


def closest_barycentric(
    point: Float[Array, "*#batch D"],
    a: Float[Array, "*#batch D"],
    b: Float[Array, "*#batch D"],
    c: Float[Array, "*#batch D"],
) -> Float[Array, "*broadcast 3"]:
    """Return barycentric weights of the closest point in triangle abc (Ericson, 2005, 5.1.5).

    Works in any number of dimensions.
    """
    ab, ac = b - a, c - a
    d1, d2 = _dot(ab, point - a), _dot(ac, point - a)
    d3, d4 = _dot(ab, point - b), _dot(ac, point - b)
    d5, d6 = _dot(ab, point - c), _dot(ac, point - c)
    area_a, area_b, area_c = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = area_a + area_b + area_c
    safe = np.where(np.abs(total) < 1e-300, 1.0, total)
    v, w = area_b / safe, area_c / safe
    zero, one = np.zeros_like(v), np.ones_like(v)
    result = np.stack([1 - v - w, v, w], axis=-1)

    def ratio(numerator: Array, denominator: Array) -> Array:
        return np.clip(numerator / np.where(denominator == 0, 1.0, denominator), 0, 1)

    along_bc = ratio(d4 - d3, (d4 - d3) + (d5 - d6))
    along_ac = ratio(d2, d2 - d6)
    along_ab = ratio(d1, d1 - d3)
    # Corners come after edges: a corner region also satisfies the tests of its two edges.
    regions = (
        ((area_a <= 0) & (d4 >= d3) & (d5 >= d6), (zero, 1 - along_bc, along_bc)),
        ((area_b <= 0) & (d2 >= 0) & (d6 <= 0), (1 - along_ac, zero, along_ac)),
        ((area_c <= 0) & (d1 >= 0) & (d3 <= 0), (1 - along_ab, along_ab, zero)),
        ((d6 >= 0) & (d5 <= d6), (zero, zero, one)),
        ((d3 >= 0) & (d4 <= d3), (zero, one, zero)),
        ((d1 <= 0) & (d2 <= 0), (one, zero, zero)),
    )
    for inside, weights in regions:
        result = np.where(inside[..., None], np.stack(weights, axis=-1), result)
    return result


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1)


def vertex_areas(vertices: Float[Array, "V 3"], triangles: Int[Array, "T 3"]) -> Float[Array, "V"]:
    """Return a third of the area of the triangles at every vertex, square metres: its weight."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    result = np.zeros(len(vertices))
    for k in range(3):
        np.add.at(result, triangles[:, k], area)
    return result
