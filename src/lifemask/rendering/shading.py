"""Shade images of normals with spherical harmonics."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics


def shade_normals(
    normals: Float[Tensor, "*image_batch 3 H W"], light: SphericalHarmonicsLight
) -> Float[Tensor, "*image_batch 3 H W"]:
    """Return linear RGB shading. It is not clamped and may be negative; zero for zero normals.

    Args:
        normals: unit vectors in light axes (+x right, +y up, +z to the viewer), or zero where there
            is no surface.
        light: its batch axes broadcast against those of the normals.
    """
    basis = spherical_harmonics(normals.movedim(-3, -1))
    shading = torch.einsum("...hwk,...kc->...chw", basis, light.coefficients)
    return shading * (normals != 0).any(-3, keepdim=True)


def normalize_image(
    vectors: Float[Tensor, "*image_batch 3 H W"],
) -> Float[Tensor, "*image_batch 3 H W"]:
    """Return unit vectors; zero stays zero."""
    return torch.nn.functional.normalize(vectors, dim=-3, eps=1e-12)
