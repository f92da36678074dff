"""Difference between the shadings of a ball by two lights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics

_DIRECTIONS = 96


def light_loss(
    predicted: SphericalHarmonicsLight, true: SphericalHarmonicsLight
) -> Float[Tensor, "*batch"]:
    """Return the root mean square difference of shading, as a share of the true mean shading.

    It compares the side of a white ball that faces the camera, because skin that faces away is not
    visible.
    """
    basis = spherical_harmonics(facing_directions(_DIRECTIONS).to(true.coefficients))
    seen, wanted = basis @ predicted.coefficients, basis @ true.coefficients
    mean = wanted.clamp(min=0).mean((-1, -2)).clamp(min=1e-3)
    # The square root has no finite derivative at zero.
    return ((seen - wanted).square().mean((-1, -2)) + 1e-12).sqrt() / mean


def facing_directions(count: int) -> Float[Tensor, "count 3"]:
    """Return unit vectors in light axes, spread evenly over the hemisphere towards the viewer."""
    steps = torch.arange(count, dtype=torch.float32) + 0.5
    z = steps / count
    azimuth = steps * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], dim=-1)
