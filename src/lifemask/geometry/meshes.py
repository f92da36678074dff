"""Triangle meshes and their normals."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with optional texture coordinates. Triangles are counter-clockwise from outside."""

    vertices: Float[Tensor, "*batch V 3"]
    """Positions in metres."""
    triangles: Int[Tensor, "T 3"]
    """Vertex indices."""
    uv: Float[Tensor, "U 2"] | None = None
    """Texture coordinates in [0, 1], origin at the top left of the texture, v down."""
    uv_triangles: Int[Tensor, "T 3"] | None = None
    """Indices into `uv`, one per corner of each triangle."""


def split_quads(quads: Int[Tensor, "Q 4"]) -> Int[Tensor, "T 3"]:
    """Return the triangles (0, 1, 2) and (0, 2, 3) of each quad, next to each other."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def vertex_normals(
    vertices: Float[Tensor, "*batch V 3"], triangles: Int[Tensor, "T 3"]
) -> Float[Tensor, "*batch V 3"]:
    """Return unit vertex normals, weighting each triangle by its area.

    A vertex of no triangle, or only of degenerate ones, gets the zero vector.
    """
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    scaled = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals = normals.index_add(-2, triangles[:, k], scaled)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-20)


def triangle_areas(
    vertices: Float[Tensor, "*batch V 3"], triangles: Int[Tensor, "T 3"]
) -> Float[Tensor, "*batch T"]:
    """Return triangle areas in square metres."""
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
