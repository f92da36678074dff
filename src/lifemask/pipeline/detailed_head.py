"""The relief of the skin as triangles: a finer mesh of the face, moved by the displacement."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.geometry.refinement import edges_inside, split_edges
from lifemask.io.scenes import Surface
from lifemask.rendering import sample_texture

_LEVELS = 2
"""How often edges are halved: on the face, from about 2 mm to 0.5 mm, two texels of the displacement."""


def with_relief(
    surface: Surface, face: Bool[Tensor, "V"], displacement: Float[Tensor, "R R"]
) -> Surface:
    """Return a surface with finer triangles on the face, moved along its normals.

    Morph targets and joint weights of new vertices are means of their neighbours'. Morph targets lose
    their normals, which would double the file.

    Args:
        surface: smooth, with normals and texture coordinates.
        face: which of its vertices belong to the face.
        displacement: metres along the normal, in UV.
    """
    assert surface.normals is not None
    assert surface.uv is not None
    assert surface.uv_triangles is not None
    positions, normals = torch.from_numpy(surface.positions), torch.from_numpy(surface.normals)
    triangles, uv_triangles = (
        torch.from_numpy(values).long() for values in (surface.triangles, surface.uv_triangles)
    )
    uv = torch.from_numpy(surface.uv)
    others = {
        name: torch.from_numpy(values)
        for name in ("morphs", "joint_weights")
        if (values := getattr(surface, name)) is not None
    }
    for _ in range(_LEVELS):
        split = edges_inside(triangles, face)
        finer = split_edges(triangles, split, len(positions))
        finer_uv = split_edges(uv_triangles, split, len(uv))
        positions = finer.rounded(positions, normals)
        normals = F.normalize(finer.apply(normals), dim=-1, eps=1e-12)
        uv = finer_uv.apply(uv)
        others = {name: finer.apply(values) for name, values in others.items()}
        face = torch.cat([face, face[finer.ends].all(-1)])
        triangles, uv_triangles = finer.triangles, finer_uv.triangles
    # Each vertex takes the displacement from one of its places in the texture, so seams stay closed.
    heights = sample_texture(displacement[None], uv.T[:, None])[0, 0]
    at_vertices = torch.zeros(len(positions))
    at_vertices[triangles.flatten()] = heights[uv_triangles.flatten()]
    moved = positions + at_vertices[:, None] * normals
    return replace(
        surface,
        positions=moved.numpy(),
        triangles=triangles.int().numpy(),
        normals=vertex_normals(moved, triangles).numpy(),
        uv=uv.numpy(),
        uv_triangles=uv_triangles.int().numpy(),
        morph_normals=None,
        quads=False,
        **{name: np.ascontiguousarray(values.numpy()) for name, values in others.items()},
    )
