"""Differences of predicted coefficients from the true ones and from the mean face."""

import torch
from jaxtyping import Float
from torch import Tensor


def coefficient_loss(
    predicted: Float[Tensor, "*batch N"],
    true: Float[Tensor, "*batch N"],
    importance: Float[Tensor, "N"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the mean squared difference, in the coefficients' own unit.

    Args:
        predicted: standard deviations, or expression weights.
        true: the same.
        importance: weight of each coefficient, such as `geometric_importance`; equal by default.
    """
    squared = (predicted - true).square()
    if importance is None:
        return squared.mean(-1)
    return (squared * importance).sum(-1) / importance.sum()


def coefficient_prior(coefficients: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """Return the mean square: up to constants, the negative log density of a unit Gaussian."""
    return coefficients.square().mean(-1)


def geometric_importance(basis: Float[Tensor, "N V 3"]) -> Float[Tensor, "N"]:
    """Return the mean squared motion of the surface per unit of each coefficient, at most 1.

    In a plain mean over coefficients, modes that hardly move the surface dominate. With these
    weights it is a mean over the surface (as in WPDC: Zhu et al., "Face alignment across large
    poses", 2016, equation 8).
    """
    motion = basis.square().sum(-1).mean(-1)
    return motion / torch.clamp(motion.max(), min=1e-30)
