"""What skin does with light beside its colour: how much of it reaches the skin, and how it shines.

Both are smooth, so they are computed for vertices: no seam of the texture shows.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import even_directions
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.head_surface import opaque_triangles
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import interpolate
from lifemask.rendering.filters import fill_unknown
from lifemask.rendering.visibility import unhidden_share, visible_directions
from lifemask.texture.atlas import ANALYSIS_SIZE, uv_fragments

_DIRECTIONS = 32
"""Number of directions from which the head is looked at; each takes some 10 ms."""
_SMOOTHINGS = 3
"""So few directions leave steps, which this many rounds of mixing with neighbours remove."""
_POSE = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0, "jawOpen": 0.3}
"""Expression in which the head hides itself. At rest, folded lids and touching lips see no light; they
would be black stripes as soon as an eye closes or the mouth opens."""
_LEAST_ON_LIDS = 0.5
"""Rims of lids touch in this expression; open eyes show them."""
_USUAL_ROUGHNESS = 0.6
_ROUGHNESS = {
    "face": 0.53,
    "scalp": 0.65,
    "ears": 0.62,
    "neck": 0.63,
    "brows": 0.58,
    "eyes": 0.48,
    "lips": 0.41,
    "mouth_bag": 0.3,
}
"""Roughness of regions of the model; later ones lie on top of earlier ones."""
_OILY = 0.43
"""Roughness of skin with much sebum."""
_OILY_SPOTS = ((0.0, 0.048, 0.034, 0.034, 0.02), (0.0, -0.03, 0.04, 0.012, 0.03))
"""Forehead and nose: middle (x, y, z) and half width and height of the oily spots, head space, metres."""
_OILY_DEPTH = 0.04
"""Their half depth, metres."""


def unhidden_vertices(model: MorphableModel, person: FaceCoefficients) -> Float[Tensor, "V"]:
    """Return which share of even light from everywhere reaches each vertex of a head, 0 to 1.

    The light is weighted by its angle, as on matt skin. Lids are closed, and the lips a little apart.

    Args:
        model: the head.
        person: without expression.
    """
    weights = [_POSE.get(name, 0.0) for name in model.expression_names]
    vertices = model.vertices(replace(person, expression=torch.tensor(weights)))
    normals = vertex_normals(vertices, model.triangles)
    solid = model.triangles[opaque_triangles(model)]
    directions = even_directions(_DIRECTIONS).float()
    visible = visible_directions(vertices, normals, directions, vertices, solid)
    shares = unhidden_share(visible, normals, directions, torch.ones(_DIRECTIONS, 3))[:, 0]
    if model.eyeballs is not None:
        lids = model.eyeballs.lids.flatten()
        shares[lids] = shares[lids].clamp(min=_LEAST_ON_LIDS)
    return _smoothed(shares, model)


def skin_roughness(model: MorphableModel) -> Float[Tensor, "V"]:
    """Return the roughness of each vertex in [0, 1]: lips, nose and forehead shine most."""
    regions = model.regions
    roughness = torch.full((len(model.mean),), _USUAL_ROUGHNESS)
    for name, value in _ROUGHNESS.items():
        if name in regions:
            roughness = torch.lerp(roughness, torch.tensor(value), regions[name])
    roughness = torch.lerp(roughness, torch.tensor(_OILY), _oily(model))
    return _smoothed(roughness, model)


def skin_image(
    model: MorphableModel, values: Float[Tensor, "V C"], *, size: int = ANALYSIS_SIZE
) -> Float[Tensor, "C size size"]:
    """Return values of skin vertices in UV, extended smoothly over all other texels."""
    fragments = uv_fragments(model, size)
    first, end = model.triangle_parts.get("skin", (0, len(model.triangles)))
    shown = fragments.triangle_index
    known = ((shown >= first) & (shown < end)).float()
    return fill_unknown(interpolate(values, model.triangles, fragments) * known, known)


def _oily(model: MorphableModel) -> Float[Tensor, "V"]:
    """Return how far each vertex lies on the forehead or on the nose, 0 to 1."""
    spots = torch.zeros(len(model.mean))
    for x, y, z, wide, high in _OILY_SPOTS:
        away = (model.mean - torch.tensor([x, y, z])) / torch.tensor([wide, high, _OILY_DEPTH])
        spots = torch.maximum(spots, torch.exp(-away.square().sum(-1)))
    return spots


def _smoothed(values: Float[Tensor, "V"], model: MorphableModel) -> Float[Tensor, "V"]:
    """Return values mixed a few times with those of the neighbours of each vertex."""
    ends = model.triangles[:, [0, 1, 2, 1, 2, 0]].reshape(-1)
    others = model.triangles[:, [1, 2, 0, 0, 1, 2]].reshape(-1)
    count = torch.bincount(ends, minlength=len(values)).clamp(min=1)
    for _ in range(_SMOOTHINGS):
        around = torch.zeros_like(values).index_add(0, ends, values[others]) / count
        values = (values + around) / 2
    return values
