"""Pictures that show what a system made of a face, beside the photo."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.images import render
from lifemask.rendering.shading import shade_normals

CLAY = 0.55
"""Linear grey of the clay."""

BACKGROUND = 0.85
"""Linear grey behind heads without a photo."""

_SIDE_LIGHT = (0.9, 0.35)
"""Azimuth and elevation in radians."""


@torch.no_grad()
def draw_estimate(
    model: MorphableModel, photo: Float[Tensor, "*batch 3 S S"], estimate: ExplainedFace
) -> Float[Tensor, "*batch 5 3 S S"]:
    """Return photo, overlay, clay, albedo and the face relit from the side; linear RGB in [0, 1]."""
    batch, camera = photo.shape[:-3], estimate.camera
    vertices = model.vertices(estimate.coefficients)
    everything = opaque_triangles(model)
    face = everything[(model.regions["face"][model.triangles[everything]] > 0.5).all(-1)]

    def mesh(chosen: Int[Tensor, "T"]) -> Mesh:
        return Mesh(vertices, model.triangles[chosen], model.uv, model.uv_triangles[chosen])

    texture = None if model.albedo is None else model.albedo.texture(estimate.coefficients.albedo)
    textured = render(mesh(everything), camera, texture=texture, light=estimate.light)
    on_face = render(mesh(face), camera, texture=texture, light=estimate.light)
    side = SphericalHarmonicsLight.from_direction(*_SIDE_LIGHT)
    frontal = SphericalHarmonicsLight.from_direction(0.3, 0.4, strength=0.8, ambient=0.25)
    clay = CLAY * shade_normals(textured.normals, _on(frontal, photo))
    relit = textured.albedo * shade_normals(textured.normals, _on(side, photo))

    def over(picture: Tensor, mask: Tensor, behind: Tensor | float) -> Tensor:
        mask = mask.unsqueeze(-3)
        return (mask * picture + (1 - mask) * behind).clamp(0, 1)

    panels = [
        photo.clamp(0, 1),
        over(on_face.colour, on_face.mask, photo),
        over(clay, textured.mask, BACKGROUND),
        over(textured.albedo, textured.mask, BACKGROUND),
        over(relit, textured.mask, BACKGROUND),
    ]
    return torch.stack([panel.expand(*batch, *photo.shape[-3:]) for panel in panels], dim=-4)


def opaque_triangles(model: MorphableModel) -> Int[Tensor, "T"]:
    """Return the indices of the triangles without the lashes, which are cards with holes."""
    count = len(model.triangles)
    keep = torch.ones(count, dtype=torch.bool, device=model.triangles.device)
    if "lashes" in model.triangle_parts:
        keep[slice(*model.triangle_parts["lashes"])] = False
    return torch.nonzero(keep).squeeze(-1)


def _on(light: SphericalHarmonicsLight, image: Tensor) -> SphericalHarmonicsLight:
    return SphericalHarmonicsLight(light.coefficients.to(image))
