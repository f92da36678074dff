"""Pictures that show what a system made of a face, beside the photo."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.head_surface import opaque_triangles
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.heads import head_surface, render_head
from lifemask.rendering.shading import shade_normals

PANELS = ("photo", "overlay", "clay", "albedo", "relit")
"""The pictures of each face, from left to right."""

CLAY = 0.55
"""Linear grey of the clay."""

BACKGROUND = 0.85
"""Linear grey behind heads without a photo."""

_SIDE_LIGHT = (0.9, 0.35)
"""Azimuth and elevation in radians."""


@torch.no_grad()
def draw_panels(
    model: MorphableModel, photo: Float[Tensor, "*batch 3 S S"], face: ExplainedFace
) -> Float[Tensor, "*batch 5 3 S S"]:
    """Return photo, overlay, clay, albedo and the face relit from the side; linear RGB in [0, 1].

    Args:
        model: the head of the faces.
        photo: crops, linear RGB.
        face: what a system predicts of them.
    """
    whole = render_head(head_surface(model, face), face.camera, face.light, depth=face.depth).fine
    region = model.regions.get("face")
    kept = None
    if region is not None:
        solid = opaque_triangles(model)
        kept = solid[(region[model.triangles[solid]] > 0.5).all(-1)]
    surface = head_surface(model, face, triangles=kept)
    on_face = render_head(surface, face.camera, face.light, depth=face.depth).fine
    side = SphericalHarmonicsLight.from_direction(*_SIDE_LIGHT)
    frontal = SphericalHarmonicsLight.from_direction(0.3, 0.4, strength=0.8, ambient=0.25)
    clay = CLAY * shade_normals(whole.normals, _on(frontal, photo))
    relit = whole.albedo * shade_normals(whole.normals, _on(side, photo))

    def over(picture: Tensor, mask: Tensor, behind: Tensor | float) -> Tensor:
        mask = mask.unsqueeze(-3)
        return (mask * picture + (1 - mask) * behind).clamp(0, 1)

    panels = [
        photo.clamp(0, 1),
        over(on_face.colour, on_face.mask, photo),
        over(clay, whole.mask, BACKGROUND),
        over(whole.albedo, whole.mask, BACKGROUND),
        over(relit, whole.mask, BACKGROUND),
    ]
    return torch.stack([panel.expand(photo.shape) for panel in panels], dim=-4)


def _on(light: SphericalHarmonicsLight, image: Tensor) -> SphericalHarmonicsLight:
    return SphericalHarmonicsLight(light.coefficients.to(image))
