"""Splits edges of a triangle mesh in the middle, where finer triangles are needed.

New points are lifted off the edges, so that a coarse mesh stays round (Boubekeur and Alexa, "Phong
tessellation", SIGGRAPH Asia 2008). Old points stay where they are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROUNDNESS = 0.75
"""Share of the way to the curved surface, as in the paper."""


@dataclass(frozen=True)
class Refinement:
    """A finer mesh: its vertices are the old ones, then the middles of the split edges."""

    ends: Int[Tensor, "E 2"]
    """The two old vertices of each split edge."""
    triangles: Int[Tensor, "F 3"]
    """Indices of old and new vertices."""

    def apply(self, values: Float[Tensor, "*batch V C"]) -> Float[Tensor, "*batch L C"]:
        """Return any values of vertices on the finer mesh; in the middle of an edge, their mean."""
        first, second = self.ends.unbind(-1)
        middle = (values[..., first, :] + values[..., second, :]) / 2
        return torch.cat([values, middle], -2)

    def rounded(
        self, vertices: Float[Tensor, "V 3"], normals: Float[Tensor, "V 3"]
    ) -> Float[Tensor, "L 3"]:
        """Return positions on the finer mesh; new ones lie near the curved surface of the normals."""
        (a, b), (na, nb) = (values[self.ends].unbind(1) for values in (vertices, normals))
        middle = (a + b) / 2
        lift = [
            -((middle - point) * normal).sum(-1, keepdim=True) * normal
            for point, normal in ((a, na), (b, nb))
        ]
        return torch.cat([vertices, middle + _ROUNDNESS * (lift[0] + lift[1]) / 2])


def edges_inside(triangles: Int[Tensor, "T 3"], chosen: Bool[Tensor, "V"]) -> Bool[Tensor, "T 3"]:
    """Return whether both ends of each triangle's edges (0, 1), (1, 2) and (2, 0) are chosen."""
    corners = chosen[triangles]
    return corners & corners.roll(-1, 1)


def split_edges(
    triangles: Int[Tensor, "T 3"], split: Bool[Tensor, "T 3"], vertex_count: int
) -> Refinement:
    """Split edges in the middle; no gaps appear if both sides of an edge agree.

    With the same choice, the texture's triangles are split in the same order as the mesh's.

    Args:
        triangles: vertex indices.
        split: which of each triangle's edges (0, 1), (1, 2) and (2, 0) to split.
        vertex_count: number of old vertices.
    """
    following = triangles.roll(-1, 1)
    low, high = torch.minimum(triangles, following), torch.maximum(triangles, following)
    keys, of_edge = (low * vertex_count + high)[split].unique(return_inverse=True)
    middles = torch.full_like(triangles, -1)
    middles[split] = vertex_count + of_edge
    ends = torch.stack([keys // vertex_count, keys % vertex_count], -1)
    parts = [triangles[~split.any(1)]]
    for turn in range(3):
        c, m, s = (values.roll(-turn, 1) for values in (triangles, middles, split))
        one, two = s[:, 0] & ~s[:, 1] & ~s[:, 2], s[:, 0] & s[:, 1] & ~s[:, 2]
        parts += _filled(c, m, one, ("c0 m0 c2", "m0 c1 c2"))
        parts += _filled(c, m, two, ("m0 c1 m1", "c0 m0 m1", "c0 m1 c2"))
    parts += _filled(
        *(triangles, middles, split.all(1)), ("c0 m0 m2", "m0 c1 m1", "m2 m1 c2", "m0 m1 m2")
    )
    return Refinement(ends, torch.cat(parts))


def _filled(
    corners: Int[Tensor, "T 3"],
    middles: Int[Tensor, "T 3"],
    chosen: Bool[Tensor, "T"],
    pattern: tuple[str, ...],
) -> list[Int[Tensor, "N 3"]]:
    """Return the triangles of a pattern in each chosen triangle: `c1` is corner 1, `m0` the middle of edge 0."""
    known = {"c": corners[chosen], "m": middles[chosen]}
    return [
        torch.stack([known[name[0]][:, int(name[1])] for name in row.split()], -1)
        for row in pattern
    ]
