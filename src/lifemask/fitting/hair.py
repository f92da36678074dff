"""Hair as far as a bald mesh can show it: is there any, and what colour goes onto the scalp."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.filters import gaussian_blur, resized

_ENOUGH_TEXELS = 40
"""Texels of clear hair below which its colour is not trusted."""


@dataclass(frozen=True)
class HairEstimate:
    """Hair seen in the photo."""

    coverage: float
    """Share of the visible scalp under hair, 0 (bald) to 1."""
    colour: Float[Tensor, "3"] | None
    """Linear RGB without light; None for a bald head or when none was seen."""

    def paint(
        self, albedo: Float[Tensor, "3 R R"], scalp: Float[Tensor, "r r"]
    ) -> Float[Tensor, "3 R R"]:
        """Return the texture with hair colour on the scalp, behind a soft and uneven hairline."""
        if self.colour is None:
            return albedo
        size = albedo.shape[-1]
        noise = _strands(size)
        edge = resized(gaussian_blur(scalp[None], 7.0), size) + 0.3 * (noise - 0.5)
        amount = ((edge[0] - 0.3) / 0.6).clamp_(0, 1) ** 1.5
        painted = albedo * (1 - amount)
        amount *= 0.65 + 0.7 * noise
        for channel, value in zip(painted, self.colour.tolist(), strict=True):
            channel.add_(amount, alpha=value)
        return painted


def estimate_hair(
    texture: Float[Tensor, "3 R R"],
    visibility: Float[Tensor, "R R"],
    segments: Float[Tensor, "6 R R"],
    scalp: Float[Tensor, "R R"],
    log_shading: Float[Tensor, "3 R R"],
) -> HairEstimate:
    """Measure coverage and colour of the hair on the part of the scalp that the photo shows.

    Args:
        texture: the unwrapped photo, linear.
        visibility: of each texel.
        segments: class probabilities at each texel: background, hair, body, face, clothes, other.
        scalp: 0 to 1.
        log_shading: logarithm of the light on each texel.
    """
    shown = visibility * (scalp > 0.5)
    hair = (segments[1] > 0.7) & (shown > 0.5)
    skin = ((segments[2] + segments[3]) > 0.6) & (shown > 0.5)
    n_hair, n_skin = int(hair.sum()), int(skin.sum())
    coverage = n_hair / max(n_hair + n_skin, 1)
    if n_hair < _ENOUGH_TEXELS or coverage < 0.25:
        return HairEstimate(coverage, None)
    colours = (texture.clamp(min=1e-3).log() - log_shading)[:, hair].exp()
    colour = colours.median(dim=-1).values.clamp(0.004, 0.8)
    return HairEstimate(coverage, colour)


def _strands(size: int) -> Float[Tensor, "R R"]:
    """Return fixed, fine noise stretched along v, roughly uniform in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, size // 16, size // 2, generator=generator)
    noise = torch.nn.functional.interpolate(
        noise[None], (size, size), mode="bilinear", align_corners=False
    )[0, 0]
    return ((noise - 0.5) * 1.3 + 0.5).clamp(0, 1)
