"""The head's texture atlas at one size: the triangle and the position of each texel."""

from dataclasses import dataclass
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.meshes import triangle_areas
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import Fragments, interpolate, rasterize_uv

ANALYSIS_SIZE = 512
"""Texels along each side for light, residuals and completion; detail is added later."""


@dataclass(frozen=True)
class Atlas:
    """The texels of the mean head."""

    fragments: Fragments
    """The triangle that each texel shows."""
    texels_per_millimetre: float
    """Scale of the texture on the face."""
    position: Float[Tensor, "3 R R"]
    """Position of each texel on the mean head, head space, metres."""
    regions: dict[str, Float[Tensor, "R R"]]
    """How far each texel belongs to each region of the model, 0 to 1."""
    skin: Float[Tensor, "R R"]
    """How far each texel is outer skin, 0 to 1; eyeballs, mouth bag and teeth are not."""

    @property
    def size(self) -> int:
        """Texels along each side."""
        return self.skin.shape[-1]


def head_atlas(model: MorphableModel, size: int) -> Atlas:
    """Return the model's atlas with `size` texels along each side."""
    fragments = uv_fragments(model, size)
    regions = {
        name: interpolate(weight[:, None], model.triangles, fragments)[0]
        for name, weight in model.regions.items()
    }
    return Atlas(
        fragments,
        texels_per_millimetre(model, fragments, size),
        interpolate(model.mean, model.triangles, fragments),
        regions,
        _outer_skin(regions),
    )


def uv_fragments(model: MorphableModel, resolution: int) -> Fragments:
    """Return the triangle of each texel, cached; without lashes, which have another texture."""
    return _cached_fragments((id(model), resolution), model)


def texels_per_millimetre(model: MorphableModel, fragments: Fragments, size: int) -> float:
    """Return the texture's scale on the face, from the area of its texels."""
    face = model.regions["face"] > 0.5
    inside = face[model.triangles].all(-1)
    area = triangle_areas(model.mean, model.triangles[inside]).sum()
    texels = inside[fragments.triangle_index.clamp(min=0)] & fragments.mask
    return float((texels.sum() / (area * 1e6)).sqrt())


@lru_cache(maxsize=4)
def _cached_fragments(key: tuple[int, int], model: MorphableModel) -> Fragments:
    solid = opaque_mesh(model, model.mean)
    assert solid.uv is not None
    assert solid.uv_triangles is not None
    return rasterize_uv(solid.uv, solid.uv_triangles, key[1])


def _outer_skin(regions: dict[str, Float[Tensor, "R R"]]) -> Float[Tensor, "R R"]:
    inner = sum(
        regions[name]
        for name in ("mouth_bag", "teeth", "tongue", "lashes", "eyeball_left", "eyeball_right")
    )
    return (regions["skin"] * (1 - inner)).clamp(0, 1)
