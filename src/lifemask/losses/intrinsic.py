"""Losses of a separation of skin and light in texture space (Yang et al., arXiv 2111.08282)."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.losses.means import weighted_mean

_EDGE = 80.0
"""How fast smoothness ends where the reference changes."""


def tone_and_pattern(
    log_albedo: Float[Tensor, "B 3 R R"],
    true: Float[Tensor, "B 3 R R"],
    seen: Float[Tensor, "B R R"],
    known: Float[Tensor, "B R R"],
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Return the error of the tone, and that of the albedo after the best tone.

    Args:
        log_albedo: predicted.
        true: the same, true.
        seen: weight of texels that the photo shows; they give the tone.
        known: weight of all texels of skin whose truth is known; seen ones count three times.
    """
    error = log_albedo - true
    tone = texel_mean(error, seen)
    rest = (error - tone[..., None, None]).abs().mean(1)
    weight = known * (0.5 + seen)
    return tone.abs().mean(1), weighted_mean(rest.flatten(1), weight.flatten(1))


def explained_photo(
    log_colour: Float[Tensor, "B 3 R R"],
    log_photo: Float[Tensor, "B 3 R R"],
    weight: Float[Tensor, "B R R"],
) -> Float[Tensor, "B"]:
    """Return the weighted mean distance of log albedo plus log light from the log photo."""
    distance = (log_colour - log_photo).abs().mean(1)
    return weighted_mean(distance.flatten(1), weight.flatten(1))


def chroma_smoothness(
    change: Float[Tensor, "B 3 R R"],
    log_photo: Float[Tensor, "B 3 R R"],
    weight: Float[Tensor, "B R R"],
) -> Float[Tensor, "B"]:
    """Return how much an albedo changes where the hue of the photo does not.

    Args:
        change: of the log albedo.
        log_photo: whose hue is the reference.
        weight: how far each texel is seen.
    """
    hue = log_photo - log_photo.mean(1, keepdim=True)
    total = change.new_zeros(len(change))
    for axis in (-1, -2):
        edge = torch.exp(-_EDGE * hue.diff(dim=axis).abs().mean(1))
        size = weight.shape[axis] - 1
        both = weight.narrow(axis, 0, size) * weight.narrow(axis, 1, size)
        moved = change.diff(dim=axis).abs().mean(1)
        total = total + weighted_mean((edge * moved).flatten(1), both.flatten(1))
    return total


def texel_mean(
    image: Float[Tensor, "B C R R"], weight: Float[Tensor, "B R R"]
) -> Float[Tensor, "B C"]:
    """Return the weighted means of channels over texels; 0 without weight."""
    return weighted_mean(
        image.flatten(2), weight.flatten(1)[:, None].expand(-1, image.shape[1], -1)
    )
