"""Differences of a predicted pose from the true one: rotation, translation and scale."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_loss(
    predicted: Float[Tensor, "*batch 3 3"], true: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Return the angle between two rotations in radians, 0 to pi; zero gradient at both ends."""
    chord = (predicted - true).flatten(-2).norm(dim=-1) / (2 * math.sqrt(2))
    # The chord is the sine of half the angle; the arcsine has no finite derivative at 1.
    return 2 * torch.asin(chord.clamp(max=1 - 1e-6))


def translation_loss(
    predicted: Float[Tensor, "*batch 2"], true: Float[Tensor, "*batch 2"], *, frame_side: float
) -> Float[Tensor, "*batch"]:
    """Return the distance of image points in units of `frame_side`, all in pixels."""
    return (predicted - true).norm(dim=-1) / frame_side


def ratio_loss(
    predicted: Float[Tensor, "*batch"], true: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Return |log(predicted / true)| of two positive sizes or distances."""
    return (predicted.clamp(min=1e-8) / true).log().abs()
