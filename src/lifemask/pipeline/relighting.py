"""A photo in another light: the head is relit, its surroundings change by the average."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.environments import Environment
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.pipeline.photo_rendering import draw_in_photo
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.rendering import render
from lifemask.rendering.filters import gaussian_blur
from lifemask.rendering.visibility import vertex_shares

_DARKEST = 0.06
"""Least shading to divide by, as a share of the brightest."""
_MOST_RATIO = 4.0
_STRAY = 0.15
"""Share of a light that reaches hidden places too, reflected by what is around them."""


def relit_photo(
    face: ReconstructedHead, light: SphericalHarmonicsLight | Environment
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the photo with the head in a new light.

    On the head, every pixel is multiplied by the new shading over the old one, which keeps all
    detail of the photo. Around it (hair, background), a smooth continuation of that ratio is used.

    Args:
        face: the head in its photo.
        light: in the camera's axes. In an environment, the head shades itself.
    """
    photo = image_from_pixels(face.photo.pixels)
    unhidden = light.light if isinstance(light, Environment) else light
    # Without the light map: shadows of the photo stay, so its own light gives the photo.
    old, new = (draw_in_photo(face, each) for each in (face.light, unhidden))
    floor = _DARKEST * float(old.shading.max())
    before, after = old.shading.clamp(min=floor), new.shading.clamp(min=0)
    if isinstance(light, Environment):
        # The fitted light does not know what is hidden, and hidden places are not exact to a pixel.
        old_share, new_share = _shares_in_photo(face, light)
        before = before * (old_share + _STRAY) / (1 + _STRAY)
        after = after * (new_share + _STRAY) / (1 + _STRAY)
    ratio = (after / before).clamp(max=_MOST_RATIO)
    mask = old.mask
    extent = float(mask.sum() ** 0.5)
    # Ratios of sums: a mean of ratios would follow the few dark places that become bright.
    light_before, light_after = before * mask, after * mask
    average = _sum(light_after) / _sum(light_before).clamp(min=1e-6)
    # Outside, values fade into the average of the head.
    spread = extent * 0.12
    near = gaussian_blur(mask[None], spread)
    carried = gaussian_blur(light_after, spread) / gaussian_blur(light_before, spread).clamp(
        min=1e-3 * floor
    )
    carried = carried.clamp(max=_MOST_RATIO)
    around = near.clamp(max=1) * carried + (1 - near.clamp(max=1)) * average
    edge = gaussian_blur(mask[None], max(1.0, extent / 150))
    inside = (edge * 2 - 1).clamp(0, 1)
    field = inside * torch.where(mask.bool(), ratio, around) + (1 - inside) * around
    return pixels_from_image(photo * field)


def _sum(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 1 1"]:
    return image.sum((-2, -1), keepdim=True)


def _shares_in_photo(
    face: ReconstructedHead, light: Environment
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "3 H W"]]:
    """Return which share of the photo's light and of the new light reaches the head at each pixel."""
    mesh, camera = face.mesh, face.camera
    placed = light_axes_from_camera(camera.to_camera(mesh.vertices))
    lights = [Environment.from_harmonics(face.light), light]
    old, new = (
        render(mesh, camera, vertex_colours=share).albedo
        for share in vertex_shares(placed, mesh.triangles, lights)
    )
    return old, new
