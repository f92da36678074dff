"""A photo in another light: the head is relit, its surroundings change by the average."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.pipeline.photo_rendering import draw_in_photo
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.rendering.filters import gaussian_blur

_DARKEST = 0.06
"""Least shading to divide by, as a share of the brightest."""


def relit_photo(
    face: ReconstructedHead, light: SphericalHarmonicsLight
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the photo with the head in a new light.

    On the head, every pixel is multiplied by the new shading over the old one, which keeps all
    detail of the photo. Around it (hair, background), a smooth continuation of that ratio is used.
    """
    photo = image_from_pixels(face.photo.pixels)
    old, new = draw_in_photo(face), draw_in_photo(face, light)
    floor = _DARKEST * float(old.shading.max())
    ratio = new.shading.clamp(min=0) / old.shading.clamp(min=floor)
    ratio = ratio.clamp(max=4.0)
    mask = old.mask
    extent = float(mask.sum() ** 0.5)
    average = (ratio * mask).sum((-2, -1), keepdim=True) / mask.sum().clamp(min=1)
    # Outside, values fade into the average of the head.
    spread = extent * 0.12
    near = gaussian_blur(mask[None], spread)
    carried = gaussian_blur(ratio * mask, spread) / near.clamp(min=1e-3)
    around = near.clamp(max=1) * carried + (1 - near.clamp(max=1)) * average
    edge = gaussian_blur(mask[None], max(1.0, extent / 150))
    inside = (edge * 2 - 1).clamp(0, 1)
    field = inside * torch.where(mask.bool(), ratio, around) + (1 - inside) * around
    return pixels_from_image(photo * field)
