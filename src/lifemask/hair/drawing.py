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
from lifemask.rendering.backends import Cull
from lifemask.rendering.texture import sample_texture

_CUT = 0.5
"""Least opacity that is drawn, as in programs that open the exported files."""
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
    attributes = torch.cat([hair.uv, hair_shading(light, normals)], dim=-1)
    opacity = torch.from_numpy(hair.picture[..., 3]).float() / 255
    colours = image_from_pixels(np.ascontiguousarray(hair.picture[..., :3]))
    if clay is not None:
        colours = torch.full_like(colours, clay)
    picture = torch.cat([colours, opacity[None]])
    nearest = torch.where(mask > 0, depth, torch.inf)
    sides: tuple[tuple[Cull, float], ...] = (("front", _INSIDE), ("back", 1.0))
    for triangles in hair.triangles.split(hair.layers):
        for cull, lit in sides:
            fragments = rasterize(points, triangles, camera.image_size, cull=cull)
            values = interpolate(attributes, triangles, fragments)
            shown = sample_texture(picture, values[:2])
            wins = fragments.mask & (fragments.depth < nearest) & (shown[3] >= _CUT)
            colour = torch.where(wins, shown[:3] * values[2:] * lit, colour)
            mask = torch.where(wins, 1.0, mask)
            nearest = torch.where(wins, fragments.depth, nearest)
    return colour.clamp(0, 1), mask
