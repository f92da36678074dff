"""Skin and light of a photo as a network has separated them, in texture space."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.rendering.filters import resized
from lifemask.texture.light_separation import DARKEST


@dataclass(frozen=True)
class SeparatedPhoto:
    """What a network knows of skin and light of a photo, per texel."""

    log_shading: Float[Tensor, "3 R R"]
    """Logarithm of the light; of the fitted one where the network knows none."""
    albedo_change: Float[Tensor, "3 R R"]
    """Log albedo relative to the model's; 0 where the network knows none."""
    light_known: Float[Tensor, "1 R R"]
    """How far the light is the network's, 0 to 1."""
    light_texels: int
    """Texels along each side of the network's light."""

    def beyond_light(self, log_shading: Float[Tensor, "3 R R"]) -> Float[Tensor, "3 R R"]:
        """Return what of a shading the network's light does not hold: its fine part where there is one."""
        size = log_shading.shape[-1]
        return log_shading - self.light_known * resized(
            resized(log_shading, self.light_texels), size
        )


def separated_photo(
    face: ExplainedFace, model_log: Float[Tensor, "3 R R"], log_shading: Float[Tensor, "3 R R"]
) -> SeparatedPhoto | None:
    """Return a coarse albedo map and the light map of a face at the analysis size.

    None for a face without an albedo map, or with one that is as fine as the analysis: it is complete.

    Args:
        face: fitted.
        model_log: log albedo of the fitted model.
        log_shading: logarithm of the fitted light.
    """
    size = model_log.shape[-1]
    if face.albedo_map is None or face.albedo_map.values.shape[-1] >= size:
        return None

    def log_of(known: UVMap) -> tuple[Float[Tensor, "3 R R"], Float[Tensor, "1 R R"]]:
        values = resized(known.values.clamp(min=DARKEST).log(), size)
        return values, resized(known.coverage[None], size).clamp(0, 1)

    albedo, albedo_known = log_of(face.albedo_map)
    light_known, texels = torch.zeros_like(albedo_known), size
    if face.light_map is not None:
        light, light_known = log_of(face.light_map)
        texels = face.light_map.values.shape[-1]
        log_shading = torch.lerp(log_shading, light, light_known)
    return SeparatedPhoto(log_shading, (albedo - model_log) * albedo_known, light_known, texels)
