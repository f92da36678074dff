"""The finest detail of the skin as a tangent-space normal map.

A known displacement gives it. Without one, it comes from the colour: mesoscopic augmentation after
Beeler et al., "High-quality single-shot capture of facial geometry", 2010: pores and wrinkles are darker
than the skin around them because less light reaches them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.morphable.head_surface import opaque_mesh, vertex_uv
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import interpolate, sample_texture
from lifemask.rendering.displacement import tangent_normals, vertex_tangents
from lifemask.rendering.filters import gaussian_blur, resized
from lifemask.texture.atlas import Atlas, head_atlas
from lifemask.texture.face_texture import FaceTexture, TexelOrigin

_NORMAL_MAP_SIZE = 1024
_FINE_MILLIMETRES = 0.35
_COARSE_MILLIMETRES = 2.0
_DEPTH_MILLIMETRES = 0.5
"""Depth of a line with an albedo that is lower by a factor of e."""
_STEEPEST = 0.5


def normal_map(
    texture: FaceTexture,
    model: MorphableModel,
    *,
    vertices: Float[Tensor, "V 3"],
    displacement: Float[Tensor, "D D"] | None = None,
) -> Float[Tensor, "3 R R"]:
    """Return unit normals in tangent space: x along u, y along -v, z out of the surface.

    Args:
        texture: the head's colours; without a displacement, their fine detail gives the depth.
        model: the head model.
        vertices: of the smooth head that the map is for, metres.
        displacement: the head's displacement in UV, metres. Only the part of it that lies between
            the vertices counts, because the mesh shows the rest.
    """
    size = min(_NORMAL_MAP_SIZE, texture.albedo.shape[-1])
    atlas = head_atlas(model, size)
    if displacement is None:
        depth = _depth_from_colour(texture, atlas)
    else:
        heights = sample_texture(displacement[None], vertex_uv(model).T[:, None])[0].T
        of_mesh = interpolate(heights, model.triangles, atlas.fragments)[0]
        depth = (resized(displacement[None], size)[0] - of_mesh) * atlas.fragments.mask
    tangents = torch.cat(vertex_tangents(opaque_mesh(model, vertices)), -1)
    along_u, along_v = interpolate(tangents, model.triangles, atlas.fragments).split(3)
    return tangent_normals(depth, along_u, along_v, steepest=_STEEPEST)


def _depth_from_colour(texture: FaceTexture, atlas: Atlas) -> Float[Tensor, "R R"]:
    """Return a displacement in metres: dark lines on visible skin are deep."""
    size, scale, regions = atlas.size, atlas.texels_per_millimetre, atlas.regions
    luminance = resized(texture.albedo.mean(0, keepdim=True), size).clamp(min=1e-3).log()
    fine = gaussian_blur(luminance, _FINE_MILLIMETRES * scale)
    band = (fine - gaussian_blur(luminance, _COARSE_MILLIMETRES * scale))[0]
    # Brows and lips are dark without being deep.
    where = atlas.skin * (1 - regions["brows"]) * (1 - regions["lips"])
    where = where * (1 - regions["scalp"])
    known = (resized(texture.origin[None].float(), size)[0] > TexelOrigin.MIRRORED - 0.5).float()
    where = gaussian_blur((where * known)[None], 2.0)[0]
    return band.clamp(-0.25, 0.12) * _DEPTH_MILLIMETRES / 1000 * where
