"""The shape of the eyeball: a sphere of 23 mm diameter; with the cornea it is 24 mm long.

Radii and distances follow the schematic adult eye (Atchison and Smith, "Optics of the Human Eye").
"""

import torch
from jaxtyping import Float
from torch import Tensor

SCLERA_RADIUS = 0.0115
"""Radius of the sphere, metres."""
CORNEA_RADIUS = 0.0078
"""Radius of curvature of the cornea, metres."""
CORNEA_OFFSET = 0.00477
"""Distance of the cornea's centre of curvature in front of the eyeball's centre, metres."""
IRIS_ANGLE_RADIANS = 0.539
"""Angle between the optical axis and the border of the iris, seen from the eyeball's centre."""

_BLEND = 0.0003


def eyeball_radius(cosine: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return the distance in metres from the centre to the surface.

    Args:
        cosine: cosine of the angle between the direction and the optical axis.
    """
    sine_squared = (1 - cosine * cosine).clamp(min=0)
    cornea = CORNEA_OFFSET * cosine + (CORNEA_RADIUS**2 - CORNEA_OFFSET**2 * sine_squared).sqrt()
    return smooth_maximum(cornea, torch.full_like(cornea, SCLERA_RADIUS), _BLEND)


def smooth_maximum(
    a: Float[Tensor, "*batch"], b: Float[Tensor, "*batch"], width: float
) -> Float[Tensor, "*batch"]:
    """Return a smooth upper bound of max(a, b), at most width / 2 above it."""
    return (a + b + ((a - b) ** 2 + width * width).sqrt()) / 2
