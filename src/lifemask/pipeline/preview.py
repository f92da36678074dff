"""The preview: one picture of a reconstruction."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import block_means, pixels_from_image
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.pipeline.views import draw_smooth, face_camera

_CLAY = 0.55
_CLAY_LIGHT = SphericalHarmonicsLight.from_direction(0.85, 0.6, strength=0.95, ambient=0.14)
"""From the side, so that wrinkles cast shade."""
_BACKGROUND = 0.85
"""Linear grey behind the renderings."""
_GAP = 6


def preview_sheet(face: ReconstructedHead, *, size: int = 384) -> UInt8[np.ndarray, "h w 3"]:
    """Return photo, overlay, clay, albedo, and the head lit from the left and from the right.

    Args:
        size: pixels a side of each of the six pictures.
    """
    surface, hair = face.surface, face.hair.mesh
    shown = face.model.regions["skin"] * (1 - face.model.regions["neck"]) > 0.5
    points = surface.mesh.vertices[shown]
    camera, square = face_camera(
        face.camera, points if hair is None else torch.cat([points, hair.vertices]), size
    )
    photo = photo_square(face.photo.pixels, square, size)
    flat = SphericalHarmonicsLight.ambient(0.85)
    left = SphericalHarmonicsLight.from_direction(-1.1, 0.25, strength=0.9, ambient=0.12)
    right = SphericalHarmonicsLight.from_direction(1.1, 0.25, strength=0.9, ambient=0.12)
    overlay = draw_smooth(surface, camera, face.light, hair=hair)
    relit = surface.without_light_map()
    pictures = [
        photo,
        overlay[0] + (1 - overlay[1]) * photo,
        _on_grey(draw_smooth(relit, camera, _CLAY_LIGHT, clay=_CLAY, hair=hair)),
        _on_grey(draw_smooth(relit, camera, flat, hair=hair)),
        _on_grey(draw_smooth(relit, camera, left, hair=hair)),
        _on_grey(draw_smooth(relit, camera, right, hair=hair)),
    ]
    gap = torch.ones(3, size, _GAP)
    row = [part for picture in pictures for part in (picture, gap)][:-1]
    return pixels_from_image(torch.cat(row, dim=-1))


def photo_square(
    pixels: UInt8[np.ndarray, "H W 3"], square: tuple[float, float, float], size: int
) -> Float[Tensor, "3 size size"]:
    """Return a square of the photo in linear light; grey outside the photo.

    Args:
        square: left, top and side in photo pixels.
        size: pixels a side of the result.
    """
    left, top, side = square
    height, width = pixels.shape[:2]
    x0, y0 = max(int(left) - 2, 0), max(int(top) - 2, 0)
    x1, y1 = min(int(left + side) + 3, width), min(int(top + side) + 3, height)
    factor = max(1, int(side / size))
    image = block_means(pixels[y0:y1, x0:x1], factor)
    image = torch.cat([image, torch.ones_like(image[:1])])
    steps = (torch.arange(size) + 0.5) / size * side
    x = (left + steps - x0) / factor / image.shape[-1] * 2 - 1
    y = (top + steps - y0) / factor / image.shape[-2] * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    sampled = torch.nn.functional.grid_sample(image[None], grid, align_corners=False)[0]
    return sampled[:3] + (1 - sampled[3]) * _BACKGROUND


def _on_grey(drawn: tuple[Tensor, Tensor]) -> Float[Tensor, "3 H W"]:
    return drawn[0] + (1 - drawn[1]) * _BACKGROUND
