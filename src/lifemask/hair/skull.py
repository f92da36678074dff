"""The head below its hair, along the rays of `lifemask.hair.rays`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.meshes import Mesh
from lifemask.hair import rays
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.filters import fill_unknown, gaussian_blur

_ROWS, _COLUMNS = 96, 144
_NAPE, _NAPE_RISE = -0.05, 0.09
"""Height at which the hair of the nape ends, and how much higher it ends at the sides, metres."""
_BEHIND_EARS = 0.68
"""(1 - cosine of the angle from the face) / 2 behind which the nape's hair begins."""
_BEARD_ANGLE, _BEARD_TOP, _BEARD_END = 1.0, 0.0, -0.14
"""Angle from the middle of the face, and heights in head space, metres, between which beards grow."""
_BEARD_TOP_ANGLE, _BEARD_WIDENS = 0.6, 0.08
"""The angle at the top, and metres over which it widens: hair ends aslant beside a cheek."""
_EAR_GAP = 0.002
"""Metres between ears and hair that hangs over them."""


@dataclass(frozen=True)
class Skull:
    """Where rays leave a head."""

    bare: Float[Tensor, "rows columns"]
    """Metres from each ray's origin to the head without its ears; continued below the neck."""
    hung: Float[Tensor, "rows columns"]
    """Metres to a surface around head, ears and neck on which hair hangs."""
    scalp: Float[Tensor, "rows columns"]
    """How far hair usually grows here, 0 to 1."""
    ears: Float[Tensor, "rows columns"]
    """How far these are the ears, 0 to 1."""
    beard: Float[Tensor, "rows columns"]
    """How far a beard can grow here, 0 to 1."""


def skull_of(model: MorphableModel, vertices: Float[Tensor, "V 3"]) -> Skull:
    """Return where rays leave a head.

    Args:
        vertices: of the head without expression, head space, metres.
    """
    mesh = opaque_mesh(model, vertices)
    names = ("scalp", "ears", "face")
    attributes = torch.stack([model.regions[name] for name in names], dim=-1)
    whole, (scalp, ears, face) = rays.unwrapped(mesh, attributes, _ROWS, _COLUMNS)
    without = mesh.triangles[(model.regions["ears"][mesh.triangles] < 0.5).all(-1)]
    cut, _ = rays.unwrapped(Mesh(vertices, without), attributes, _ROWS, _COLUMNS)
    # The ear's own back lies far from the axis; what remains at its rim is filled too.
    known = ((cut > 0) & (gaussian_blur(ears[None], 1.0)[0] < 0.05)).float()
    bare = fill_unknown((cut * known)[None], known)[0]
    hung = torch.maximum(bare, torch.where(ears > 0.01, whole + _EAR_GAP, 0))
    v, u = torch.meshgrid(
        (torch.arange(_ROWS) + 0.5) / _ROWS,
        (torch.arange(_COLUMNS) + 0.5) / _COLUMNS,
        indexing="ij",
    )
    back = 0.5 + 0.5 * torch.cos(2 * torch.pi * u)
    height = rays.MIDDLE[1] + rays.ABOVE - v * rays.LENGTH
    behind_ears = ((back - _BEHIND_EARS) / 0.12).clamp(0, 1)
    line = _NAPE + _NAPE_RISE * (1 - back)
    scalp = torch.maximum(scalp, ((height - line) / 0.016 + 0.5).clamp(0, 1) * behind_ears)
    # The crown, where all columns meet, has no triangle of its own.
    scalp = torch.where(v * rays.LENGTH < 0.02, 1.0, scalp)
    below = v * rays.LENGTH > rays.ABOVE
    falls = torch.where(below, hung, 0).cummax(0).values
    fallen = (v * rays.LENGTH - rays.ABOVE).clamp(min=0)
    hung = torch.maximum(hung, falls - 0.25 * (fallen - 0.03).clamp(min=0) * back)
    hung = torch.maximum(hung, gaussian_blur(hung[None], 2.0)[0])
    widened = ((_BEARD_TOP - height) / _BEARD_WIDENS).clamp(0, 1)
    angle = _BEARD_TOP_ANGLE + (_BEARD_ANGLE - _BEARD_TOP_ANGLE) * widened
    front = ((torch.cos(2 * torch.pi * (u - 0.5)) - angle.cos()) / 0.15).clamp(0, 1)
    low = ((_BEARD_TOP - height) / 0.015).clamp(0, 1)
    beard = front * low * torch.maximum(face, (height > _BEARD_END).float())
    return Skull(bare, hung, scalp.clamp(0, 1), ears.clamp(0, 1), beard.clamp(0, 1))
