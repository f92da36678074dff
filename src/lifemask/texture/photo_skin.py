"""The skin that the photo shows, texel by texel."""

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
"""Skin this near to hair, background or hidden texels is not used."""

_COVERED = 0.35
"""Skin counts less from this probability on that something hides it."""


@dataclass(frozen=True)
class PhotoSkin:
    """The photo in texture space, with the skin in it."""

    photo: UnwrappedPhoto
    """Linear RGB, visibility, and cosine between normal and view."""
    segments: Float[Tensor, "6 R R"]
    """Class probabilities: background, hair, body, face, clothes, other."""
    weight: Float[Tensor, "R R"]
    """How far each texel is visible and segmented as skin, 0 to 1."""
    not_skin: Float[Tensor, "R R"]
    """Probability of something other than this face's skin, 0 where the head hides itself."""


def photo_skin(
    photo: HeadPhoto,
    mesh: Mesh,
    observation: FaceObservation,
    atlas: Atlas,
    *,
    covered: Float[Tensor, "V"] | None = None,
) -> PhotoSkin:
    """Unwrap the photo and weight each texel by the probability that it shows skin.

    Args:
        mesh: the head as in the photo.
        observation: the photo's measurements; without a segmentation, all is taken for skin.
        covered: probability that something hides each vertex; None if unknown.
    """
    fragments, scale = atlas.fragments, atlas.texels_per_millimetre
    unwrapped = unwrap_photo(photo.image, mesh, photo.camera, fragments)
    image_points = interpolate(photo.whole.project(mesh.vertices)[:, :2], mesh.triangles, fragments)
    segments = segmentation_at(observation, image_points.flatten(1).T).T
    segments = segments.view(-1, atlas.size, atlas.size)
    facing = ((unwrapped.cosine - 0.15) / 0.35).clamp(0, 1)
    skin = (((segments[2] + segments[3]) - 0.5) * 3).clamp(0, 1)
    # Borders of the segmentation err by millimetres, and hair shades the skin beside it.
    not_skin = 1 - segments[2] - segments[3]
    if covered is not None:
        # A hand is skin too, but it is not the skin of this face.
        hidden = interpolate(covered[:, None], mesh.triangles, fragments)[0]
        skin = skin * (1 - ((hidden - _COVERED) / 0.3).clamp(0, 1))
        not_skin = torch.maximum(not_skin, hidden)
    weight = eroded(unwrapped.visibility * skin, _BORDER_MILLIMETRES * scale) * facing * atlas.skin
    # The rasteriser's snap can move barycentric weights, and so regions, outside [0, 1].
    weight = torch.minimum(weight, gaussian_blur(weight[None], 2.5)[0]).clamp(0, 1) ** 1.5
    not_skin = not_skin * (unwrapped.visibility > 0.5) * atlas.skin
    return PhotoSkin(unwrapped, segments, weight, not_skin)
