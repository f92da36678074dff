"""Finds creases of the skin: dark lines that are shadow in a fold, not colour.

A crease is long, a mole or a freckle is round. The curvatures of the brightness tell them apart: across a
dark line it is large, along the line near 0; on a spot both are alike (Frangi et al., "Multiscale vessel
enhancement filtering", MICCAI 1998).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.rendering.filters import blur_weighted, gaussian_blur
from lifemask.texture.seen_skin import closed

_WIDTHS_MILLIMETRES = (0.8, 1.6)
"""Scales at which a crease is a line, at each of them."""
_FINE_MILLIMETRES = 0.35
"""Blur below which differences are the structure of the skin."""
_WIDEST_MILLIMETRES = 3.5
"""Dark places wider than this are no creases."""
_AROUND_MILLIMETRES = 6.0
"""Width over which skin beside hidden texels stands for them."""
_ROUND = 0.5
"""A place is a spot if the curvature along it exceeds this share of that across."""
_FAINT = 0.16
"""Log brightness of lines that are mostly kept: pores and fine structure of the skin."""
_SHARE = 0.95
"""Share of the darkness of a clear crease that is shadow."""


def crease_shadow(
    brightness: Float[Tensor, "R R"],
    weight: Float[Tensor, "R R"],
    plain: Float[Tensor, "R R"],
    scale: float,
) -> Float[Tensor, "R R"]:
    """Return the logarithm of the light that creases leave, at most 0.

    Args:
        brightness: log brightness of the skin.
        weight: how far each texel shows bare skin, 0 to 1.
        plain: how far each texel is skin without brows, lips, lids, nostrils and hair, 0 to 1.
        scale: texels per millimetre.
    """
    around = blur_weighted(brightness[None], weight, _AROUND_MILLIMETRES * scale)[0]
    filled = torch.lerp(around, brightness, weight)
    smooth = gaussian_blur(filled[None], _FINE_MILLIMETRES * scale)[0]
    depth = (closed(smooth, _WIDEST_MILLIMETRES * scale) - smooth).clamp(min=0)
    depth = depth * depth / (depth + _FAINT)
    line = torch.stack([line_share(filled, width * scale) for width in _WIDTHS_MILLIMETRES]).amin(0)
    return -_SHARE * depth * line * weight * plain


def line_share(brightness: Float[Tensor, "R R"], sigma: float) -> Float[Tensor, "R R"]:
    """Return how far a dark (or low) place is long rather than round, 0 to 1.

    Args:
        brightness: or height.
        sigma: of the Gaussian at whose scale it is looked for, texels.
    """
    smooth = gaussian_blur(brightness[None], sigma)[0]
    by_row, by_column = torch.gradient(smooth)
    tall, mixed = torch.gradient(by_row)
    wide = torch.gradient(by_column, dim=1)[0]
    middle, spread = (tall + wide) / 2, (((tall - wide) / 2).square() + mixed.square()).sqrt()
    across, along = (middle + spread).clamp(min=0), (middle - spread).clamp(min=0)
    # Flanks of a line belong to it.
    across, along = gaussian_blur(torch.stack([across, along]), sigma)
    return (1 - along / (_ROUND * across).clamp(min=1e-6)).clamp(0, 1)
