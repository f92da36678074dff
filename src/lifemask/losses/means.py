"""Weighted means that are zero, not undefined, where nothing has weight."""

from jaxtyping import Float
from torch import Tensor


def weighted_mean(
    values: Float[Tensor, "*batch N"], weight: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch"]:
    """Return the mean over the last axis; 0, with zero gradient, where all weights are 0.

    Values without weight may be anything, infinite or NaN included.
    """
    kept = values.where(weight > 0, 0.0)
    # Weights are at most 1 in use: the smallest total that counts lies far above the guard.
    return (kept * weight).sum(-1) / weight.sum(-1).clamp(min=1e-8)
