"""Weighted means that are zero where all weights are zero."""

from jaxtyping import Float
from torch import Tensor


def weighted_mean(
    values: Float[Tensor, "*batch N"], weight: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch"]:
    """Return the mean over the last axis; 0, with zero gradient, where all weights are 0.

    Values of weight 0 may be infinite or NaN.
    """
    kept = values.where(weight > 0, 0.0)
    # The minimum only avoids division by zero: totals that matter are far above it.
    return (kept * weight).sum(-1) / weight.sum(-1).clamp(min=1e-8)
