"""Surfaces for formats with one index per corner: seams and tangents."""

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from lifemask.io.scenes import Surface


def split_at_seams(surface: Surface) -> Surface:
    """Give every vertex one texture coordinate: vertices on texture seams are repeated.

    Formats with one index per corner need this. The order is that of the old vertex indices.
    """
    if surface.uv is None or surface.uv_triangles is None:
        return surface
    corners = surface.triangles.reshape(-1).astype(np.int64) * len(surface.uv)
    corners += surface.uv_triangles.reshape(-1)
    pairs, index = np.unique(corners, return_inverse=True)
    vertex, place = np.divmod(pairs, len(surface.uv))
    return replace(
        surface,
        positions=surface.positions[vertex],
        triangles=index.reshape(-1, 3),
        normals=None if surface.normals is None else surface.normals[vertex],
        uv=surface.uv[place],
        uv_triangles=None,
        tangents=None if surface.tangents is None else surface.tangents[vertex],
        morphs=None if surface.morphs is None else surface.morphs[:, vertex],
        morph_normals=None if surface.morph_normals is None else surface.morph_normals[:, vertex],
        joint_weights=None if surface.joint_weights is None else surface.joint_weights[vertex],
    )


def faces(triangles: Shaped[np.ndarray, "T 3"], *, quads: bool) -> Shaped[np.ndarray, "F N"]:
    """Return the corners of each face: those of the triangles, or of the quads that they halve.

    Args:
        triangles: three values for each triangle, such as vertex indices.
        quads: as in `Surface`.
    """
    if not quads:
        return triangles
    return np.concatenate([triangles[0::2], triangles[1::2, 2:]], axis=-1)


def with_tangents(surface: Surface) -> Surface:
    """Return the surface, split at seams, with tangents; all programs then show its normal map alike.

    As in MikkTSpace (Mikkelsen, 2008), each corner has its angle in the plane of the vertex normal
    as weight. Vertices where the texture is mirrored need no further split after `split_at_seams`.

    Raises:
        ValueError: the surface lacks normals or texture coordinates.
    """
    surface = split_at_seams(surface)
    if surface.normals is None or surface.uv is None:
        raise ValueError("Tangents need normals and texture coordinates; the surface lacks them.")
    normals = surface.normals.astype(np.float64)
    corner = surface.positions.astype(np.float64)[surface.triangles]
    uv = surface.uv.astype(np.float64)[surface.triangles] * (1.0, -1.0)
    du, dv = np.moveaxis(uv[:, 1:] - uv[:, :1], -1, 0)
    edges = corner[:, 1:] - corner[:, :1]
    area = du[:, 0] * dv[:, 1] - du[:, 1] * dv[:, 0]
    sign = np.where(area < 0, -1.0, 1.0)[:, None]
    along_u = sign * (edges[:, 0] * dv[:, 1:] - edges[:, 1] * dv[:, :1])
    along_v = sign * (edges[:, 1] * du[:, :1] - edges[:, 0] * du[:, 1:])

    tangent, bitangent = np.zeros_like(normals), np.zeros_like(normals)
    for k in range(3):
        vertex = surface.triangles[:, k]
        weight = _corner_angle(corner, k)[:, None]
        for total, direction in ((tangent, along_u), (bitangent, along_v)):
            np.add.at(total, vertex, weight * _unit(_reject(direction, normals[vertex])))
    tangent = _unit(_reject(tangent, normals))
    # If the sum is zero, or no triangle has an area in the texture, any direction is allowed.
    fallback = _unit(np.cross(normals, np.eye(3)[np.abs(normals).argmin(-1)]))
    tangent = np.where(np.linalg.norm(tangent, axis=-1, keepdims=True) > 0.5, tangent, fallback)
    handedness = np.sign((np.cross(normals, tangent) * bitangent).sum(-1, keepdims=True))
    handedness[handedness == 0] = 1
    tangents = np.concatenate([tangent, handedness], axis=-1).astype(np.float32)
    return replace(surface, tangents=tangents)


def _unit(vectors: Shaped[np.ndarray, "*n 3"]) -> Shaped[np.ndarray, "*n 3"]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-20, length, np.inf)


def _reject(
    vectors: Shaped[np.ndarray, "*n 3"], normals: Shaped[np.ndarray, "*n 3"]
) -> Shaped[np.ndarray, "*n 3"]:
    """Return the part of the vectors that is perpendicular to the unit normals."""
    return vectors - normals * (vectors * normals).sum(-1, keepdims=True)


def _corner_angle(corner: Shaped[np.ndarray, "T 3 3"], k: int) -> Shaped[np.ndarray, " T"]:
    a = _unit(corner[:, (k + 1) % 3] - corner[:, k])
    b = _unit(corner[:, (k + 2) % 3] - corner[:, k])
    return np.arccos(np.clip((a * b).sum(-1), -1, 1))
