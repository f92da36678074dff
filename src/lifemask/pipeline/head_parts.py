"""Parts of a head in files: which triangles belong to which node, and of what they are made."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from lifemask.io.scenes import SurfaceMaterial
from lifemask.morphable.model import MorphableModel
from lifemask.pipeline.outputs import EYES, LASHES, SKIN, TEETH, TONGUE


@dataclass(frozen=True)
class HeadPart:
    """A named part of the head with one material."""

    name: str
    """Name of its node."""
    material: SurfaceMaterial
    """Without images."""
    triangles: Bool[Tensor, "T"]
    """Which triangles of the model belong to it."""


_SKIN = SurfaceMaterial(SKIN, roughness=0.55)
_REGIONS = {
    "eye_left": ("eyeball_left", SurfaceMaterial(EYES, roughness=0.12)),
    "eye_right": ("eyeball_right", SurfaceMaterial(EYES, roughness=0.12)),
    "teeth": ("teeth", SurfaceMaterial(TEETH, roughness=0.2)),
    "tongue": ("tongue", SurfaceMaterial(TONGUE, roughness=0.35)),
    "lashes": (
        "lashes",
        SurfaceMaterial(LASHES, roughness=0.8, alpha_mode="BLEND", double_sided=True),
    ),
}
"""Region of the model and material of each part but the skin. Enamel and the tongue are wet."""


def head_parts(model: MorphableModel) -> list[HeadPart]:
    """Return the parts that a model has: `head`, then eyes, teeth, tongue and lashes.

    Every triangle belongs to exactly one part.
    """
    found: list[HeadPart] = []
    rest = torch.ones(len(model.triangles), dtype=torch.bool)
    for name, (region, material) in _REGIONS.items():
        if region in model.regions:
            inside = (model.regions[region][model.triangles] > 0.5).all(-1)
            found.append(HeadPart(name, material, inside))
            rest &= ~inside
    parts = [HeadPart("head", _SKIN, rest), *found]
    return [part for part in parts if bool(part.triangles.any())]


def in_quads(model: MorphableModel, triangles: Bool[Tensor, "T"]) -> bool:
    """Return whether the chosen triangles of a model are whole quads, two triangles each."""
    if getattr(model, "quads", None) is None:
        return False
    return bool((triangles[0::2] == triangles[1::2]).all())
