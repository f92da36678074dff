"""Completes skin that the photo does not show: from the other half, then from typical skin."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from lifemask.rendering import Fragments
from lifemask.rendering.filters import blur_weighted, fill_unknown, gaussian_blur
from lifemask.texture.atlas import Atlas
from lifemask.texture.light_separation import SLOW_MILLIMETRES, SkinColour

_PADDING = 3
"""Width in texels of the border around each part of the atlas that gets the part's colour."""


@dataclass(frozen=True)
class CompletedSkin:
    """Log albedo relative to the model's, on the whole head."""

    residual: Float[Tensor, "3 R R"]
    """Values for texels that the photo does not show; zero where there is no skin."""
    mirrored_weight: Float[Tensor, "R R"]
    """How far each texel's colour comes from the other half of the face, 0 to 1."""


def complete_skin(seen: SkinColour, atlas: Atlas) -> CompletedSkin:
    """Return the residual for texels that the photo does not show."""
    corrected, weight = seen.residual, seen.weight
    mirrored, mirrored_weight = corrected.flip(-1), weight.flip(-1) * 0.95
    known = torch.maximum(weight, mirrored_weight)
    blend = weight / (weight + (1 - weight) * mirrored_weight).clamp(min=1e-4)
    both = blend * corrected + (1 - blend) * mirrored
    extended = _extended(both, known, atlas.texels_per_millimetre)
    unseen = mirrored_weight * mirrored + (1 - mirrored_weight) * extended
    return CompletedSkin(unseen * _with_padding(atlas.skin, atlas.fragments), mirrored_weight)


def _extended(
    residual: Float[Tensor, "3 R R"], known: Float[Tensor, "R R"], scale: float
) -> Float[Tensor, "3 R R"]:
    """Extend the residual to texels that are not seen; values far from typical skin count less."""
    typical = blur_weighted(residual, known, 3 * SLOW_MILLIMETRES * scale)
    unlike = ((residual - typical) ** 2).mean(0)
    trust = known * torch.exp(-unlike / 0.2**2)
    smooth = gaussian_blur(torch.cat([residual * trust, trust[None]]), 2 * scale)
    return fill_unknown(smooth[:-1], smooth[-1])


def _with_padding(weight: Float[Tensor, "R R"], fragments: Fragments) -> Float[Tensor, "R R"]:
    """Extend a weight into the empty texels beside the surface: filters mix them into its edge."""
    around = max_pool2d(weight[None], 2 * _PADDING + 1, stride=1, padding=_PADDING)[0]
    return torch.where(fragments.mask, weight, around)
