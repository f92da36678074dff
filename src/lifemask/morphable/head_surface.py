"""The surface of a head: its triangles without lashes, and one texture coordinate per vertex."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.meshes import Mesh
from lifemask.morphable.model import MorphableModel


def opaque_mesh(model: MorphableModel, vertices: Float[Tensor, "*batch V 3"]) -> Mesh:
    """Return the head without its lashes.

    The lashes are the model's last triangles, so the other triangles keep their indices.
    """
    chosen = opaque_triangles(model)
    return Mesh(vertices, model.triangles[chosen], model.uv, model.uv_triangles[chosen])


def opaque_triangles(model: MorphableModel) -> Int[Tensor, "T"]:
    """Return the indices of all triangles except the lashes, which are partly transparent."""
    count = len(model.triangles)
    keep = torch.ones(count, dtype=torch.bool, device=model.triangles.device)
    if "lashes" in model.triangle_parts:
        keep[slice(*model.triangle_parts["lashes"])] = False
    return torch.nonzero(keep).squeeze(-1)


def vertex_uv(model: MorphableModel) -> Float[Tensor, "V 2"]:
    """Return one texture coordinate per vertex.

    A vertex on a seam has several coordinates; the result is that of its last corner in the list of
    triangles. A vertex of no triangle gets zero.
    """
    vertices, coordinates = model.triangles.flatten(), model.uv_triangles.flatten()
    places = torch.arange(len(vertices), device=vertices.device)
    last = torch.full((len(model.mean),), -1, device=vertices.device)
    last = last.scatter_reduce(0, vertices, places, "amax")
    uv = model.uv[coordinates[last.clamp(min=0)]]
    return torch.where((last >= 0)[:, None], uv, 0)
