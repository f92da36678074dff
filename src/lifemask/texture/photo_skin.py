"""What the photo shows of the skin, texel by texel."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.meshes import Mesh
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at
from lifemask.rendering import UnwrappedPhoto, interpolate, unwrap_photo
from lifemask.rendering.filters import eroded, gaussian_blur
from lifemask.texture.atlas import Atlas
from lifemask.texture.head_photo import HeadPhoto

_BORDER_MILLIMETRES = 2.5
"""Skin this near to hair, background or anything unseen is not trusted."""


@dataclass(frozen=True)
class PhotoSkin:
    """The photo on the atlas."""

    photo: UnwrappedPhoto
    """Linear RGB, visibility, and cosine between normal and view."""
    segments: Float[Tensor, "6 R R"]
    """Class probabilities: background, hair, body, face, clothes, other."""
    weight: Float[Tensor, "R R"]
    """How far each texel is seen and segmented as skin, 0 to 1."""
    not_skin: Float[Tensor, "R R"]
    """Probability of hair, clothes, background or anything else, where seen."""


def photo_skin(
    photo: HeadPhoto, mesh: Mesh, observation: FaceObservation, atlas: Atlas
) -> PhotoSkin:
    """Unwrap the photo and weight each texel by how surely it shows skin.

    Args:
        mesh: the head as in the photo.
        observation: with the segmentation of the photo.
    """
    fragments, scale = atlas.fragments, atlas.texels_per_millimetre
    unwrapped = unwrap_photo(photo.image, mesh, photo.camera, fragments)
    image_points = interpolate(photo.whole.project(mesh.vertices)[:, :2], mesh.triangles, fragments)
    segments = segmentation_at(observation, image_points.flatten(1).T).T
    segments = segments.view(-1, atlas.size, atlas.size)
    facing = ((unwrapped.cosine - 0.15) / 0.35).clamp(0, 1)
    skin = (((segments[2] + segments[3]) - 0.5) * 3).clamp(0, 1)
    # Segmentation borders are uncertain by millimetres, and hair shades the skin beside it.
    weight = eroded(unwrapped.visibility * skin, _BORDER_MILLIMETRES * scale) * facing * atlas.skin
    # Barycentric weights may leave [0, 1] by the rasteriser's snap, and regions with them.
    weight = torch.minimum(weight, gaussian_blur(weight[None], 2.5)[0]).clamp(0, 1) ** 1.5
    not_skin = (1 - segments[2] - segments[3]) * (unwrapped.visibility > 0.5) * atlas.skin
    return PhotoSkin(unwrapped, segments, weight, not_skin)
