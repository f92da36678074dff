"""Photos of faces in texture space, in batches, for networks that work there."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import Fragments, interpolate, unwrap_photo

DARKEST = 2e-3
"""Smallest linear light or albedo in logarithms."""
_FACING = (0.15, 0.5)
"""Cosines to the view from which texels count, and from which on they count in full."""


@dataclass(frozen=True)
class UnwrappedFaces:
    """What photos show of faces, texel by texel."""

    log_photo: Float[Tensor, "B 3 R R"]
    """Logarithm of linear RGB; any value where the weight is 0."""
    weight: Float[Tensor, "B R R"]
    """How far each texel is visible skin, 0 to 1."""
    cosine: Float[Tensor, "B R R"]
    """Cosine between normal and view."""
    normals: Float[Tensor, "B 3 R R"]
    """Unit normals in light axes, 0 where there is no surface."""


@torch.no_grad()
def unwrapped_faces(
    photo: Float[Tensor, "B 3 S S"],
    skin: Float[Tensor, "B S S"],
    face: ExplainedFace,
    model: MorphableModel,
    fragments: Fragments,
) -> UnwrappedFaces:
    """Return photos in the texture space of the faces in them; without gradient.

    Args:
        photo: linear RGB.
        skin: how far each pixel shows bare skin, 0 to 1.
        face: in the photos' pixels.
        model: its head.
        fragments: of the atlas at the resolution of the result.
    """
    mesh = opaque_mesh(model, model.vertices(face.coefficients))
    images = torch.cat([photo, skin[:, None]], 1)
    found = unwrap_photo(images, mesh, face.camera, fragments, magnification="bilinear")
    turned = light_axes_from_camera(face.camera.to_camera(mesh.vertices))
    normals = vertex_normals(turned, mesh.triangles)
    # The batch becomes channels: all faces share the atlas.
    flat = normals.transpose(0, 1).flatten(1)
    over = interpolate(flat, mesh.triangles, fragments).unflatten(0, (-1, 3))
    low, high = _FACING
    facing = ((found.cosine - low) / (high - low)).clamp(0, 1)
    weight = found.visibility * found.texture[:, 3].clamp(0, 1) * facing
    return UnwrappedFaces(
        found.texture[:, :3].clamp(min=DARKEST).log(),
        weight,
        found.cosine * fragments.mask,
        F.normalize(over, dim=1, eps=1e-6),
    )
