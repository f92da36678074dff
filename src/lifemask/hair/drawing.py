"""Draws hair over the picture of a head."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.hair.colour import hair_shading
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.io.colour import image_from_pixels
from lifemask.rendering import interpolate, rasterize
from lifemask.rendering.texture import sample_texture

_INSIDE = 0.45
"""Share of the light that reaches hair seen from inside."""


def draw_hair(
    colour: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"],
    depth: Float[Tensor, "H W"],
    hair: HeadOfHair,
    camera: PerspectiveCamera,
    light: SphericalHarmonicsLight,
    *,
    clay: float | None = None,
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """Return linear colour, premultiplied by opacity, and opacity of a head with its hair.

    Args:
        colour, mask, depth: of the head without hair.
        clay: linear grey instead of the hair's colours.
    """
    points = camera.project(hair.vertices)
    normals = light_axes_from_camera(hair.normals @ camera.world_to_camera[:3, :3].T)
    shading = hair_shading(light, normals)
    opacity = torch.from_numpy(hair.picture[..., 3]).float() / 255
    colours = image_from_pixels(np.ascontiguousarray(hair.picture[..., :3]))
    picture = torch.cat([colours * opacity, opacity[None]])
    if clay is not None:
        picture = (
            picture[3:].expand(4, -1, -1) * picture.new_tensor([clay, clay, clay, 1])[:, None, None]
        )
    behind = torch.where(mask > 0, depth, torch.inf)
    attributes = torch.cat([hair.uv, shading], dim=-1)
    starts = [sum(hair.layers[:k]) for k in range(len(hair.layers))]
    layers = [hair.triangles[s : s + n] for s, n in zip(starts, hair.layers, strict=True)]
    passes = [(layer, "front", _INSIDE) for layer in reversed(layers)]
    passes += [(layer, "back", 1.0) for layer in layers]
    for triangles, cull, lit in passes:
        if not len(triangles):
            continue
        fragments = rasterize(points, triangles, camera.image_size, cull=cull)
        values = interpolate(attributes, triangles, fragments)
        shown = sample_texture(picture, values[:2]) * (fragments.mask & (fragments.depth < behind))
        opacity = shown[3]
        colour = shown[:3] * values[2:] * lit + (1 - opacity) * colour
        mask = opacity + (1 - opacity) * mask
    return colour, mask
