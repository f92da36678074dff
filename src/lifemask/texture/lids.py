"""Lids: how far a photo shows the skin that open eyes fold away."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.meshes import triangle_areas
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.filters import eroded, gaussian_blur
from lifemask.texture.atlas import Atlas

_FOLDED, _SPREAD = 0.45, 0.75
"""Share of its area on the closed lid up to which skin counts as folded away, and from which as shown."""
_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def lids_shown(
    model: MorphableModel, coefficients: FaceCoefficients, atlas: Atlas
) -> Float[Tensor, "R R"]:
    """Return how far each texel has, on this face, the area that it has on closed lids; 0 to 1.

    A texel of folded skin gets the colour of a lash, a crease or a brow beside it, and would be a streak
    on the closed lid. Without eyeballs, and away from the lids, the result is 1.

    Args:
        model: the head.
        coefficients: of one face.
        atlas: of the model.
    """
    eyeballs = model.eyeballs
    if eyeballs is None:
        return torch.ones_like(atlas.skin)
    expression = coefficients.expression.clone()
    expression[[model.expression_names.index(name) for name in _BLINKS]] = 1
    closed = model.vertices(replace(coefficients, expression=expression))
    areas = [
        triangle_areas(vertices, model.triangles)
        for vertices in (model.vertices(coefficients), closed)
    ]
    on_lids = torch.zeros(len(model.mean), dtype=torch.bool)
    on_lids[eyeballs.lids.flatten()] = True
    share = torch.where(on_lids[model.triangles].all(-1), areas[0] / areas[1].clamp(min=1e-12), 1.0)
    texels = torch.where(
        atlas.fragments.mask, share[atlas.fragments.triangle_index.clamp(min=0)], 1.0
    )
    shown = ((texels - _FOLDED) / (_SPREAD - _FOLDED)).clamp(0, 1)
    return gaussian_blur(eroded(shown, 1)[None], 1.0)[0]
