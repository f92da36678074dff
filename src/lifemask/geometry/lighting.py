"""Distant light as nine real spherical harmonics per colour channel.

Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001.
The functions are orthonormal, in the order 1, y, z, x, xy, yz, 3z²-1, xz, x²-y². In light axes, +x
is right in the image, +y up and +z towards the viewer: light does not rotate with the head. The
coefficients hold irradiance divided by pi (the cosine lobe is included), so colour = albedo *
shading.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_C0 = 0.5 / math.sqrt(math.pi)
_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = math.sqrt(15 / (4 * math.pi))
_C20 = math.sqrt(5 / (16 * math.pi))
_C22 = math.sqrt(15 / (16 * math.pi))

# Factors of Lambertian reflection for degrees 0, 1, 2 of the incoming light, divided by pi.
_LAMBERT = torch.tensor([1.0] + [2 / 3] * 3 + [1 / 4] * 5, dtype=torch.float32)


def spherical_harmonics(normals: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 9"]:
    """Return the nine basis functions at unit vectors in light axes."""
    x, y, z = normals.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, _C0),
            _C1 * y,
            _C1 * z,
            _C1 * x,
            _C2 * x * y,
            _C2 * y * z,
            _C20 * (3 * z * z - 1),
            _C2 * x * z,
            _C22 * (x * x - y * y),
        ],
        dim=-1,
    )


def light_axes_from_camera(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Convert vectors from camera axes (y down, z forward) to light axes (y up, z to the viewer)."""
    return vectors * vectors.new_tensor([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class SphericalHarmonicsLight:
    """Distant, low-frequency light; shading 1 means that a surface shows its albedo."""

    coefficients: Float[Tensor, "*batch 9 3"]
    """Irradiance over pi: linear RGB for each basis function."""

    @classmethod
    def ambient(cls, strength: float = 1.0) -> "SphericalHarmonicsLight":
        """Return white ambient light; shading equals `strength` at every normal."""
        coefficients = torch.zeros(9, 3, dtype=torch.float32)
        coefficients[0] = strength / _C0
        return cls(coefficients)

    @classmethod
    def from_direction(
        cls,
        azimuth_radians: float,
        elevation_radians: float,
        *,
        strength: float = 1.0,
        ambient: float = 0.3,
        colour: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> "SphericalHarmonicsLight":
        """Return a distant lamp plus white ambient light.

        Args:
            azimuth_radians: 0 is behind the viewer, positive towards the right of the image.
            elevation_radians: positive is above.
            strength: shading of the lamp alone on a surface that faces it.
            ambient: shading by the ambient light alone.
            colour: linear RGB of the lamp.

        Raises:
            ValueError: a number is not finite.
        """
        given = (azimuth_radians, elevation_radians, strength, ambient, *colour)
        if not all(map(math.isfinite, given)):
            raise ValueError(f"Got a light of {given}; only finite numbers are allowed.")
        cosine = math.cos(elevation_radians)
        direction = torch.tensor(
            [
                math.sin(azimuth_radians) * cosine,
                math.sin(elevation_radians),
                math.cos(azimuth_radians) * cosine,
            ],
            dtype=torch.float32,
        )
        lamp = spherical_harmonics(direction) * _LAMBERT
        lamp = lamp / (lamp * spherical_harmonics(direction)).sum() * strength
        coefficients = lamp[:, None] * torch.tensor(colour, dtype=torch.float32)
        coefficients[0] += ambient / _C0
        return cls(coefficients)

    def shade(self, normals: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Return linear RGB shading at unit normals in light axes; may be negative, not clamped."""
        return spherical_harmonics(normals) @ self.coefficients

    def turned(self, rotation: Float[Tensor, "3 3"]) -> "SphericalHarmonicsLight":
        """Return the same light in the axes of a camera in the same place that looks elsewhere.

        Args:
            rotation: from the axes of this light's camera to those of the other (camera axes).
        """
        # The harmonics of each degree rotate among themselves, so 32 directions determine the nine.
        directions = even_directions(32).to(self.coefficients)
        before = light_axes_from_camera(light_axes_from_camera(directions) @ rotation)
        values = spherical_harmonics(before) @ self.coefficients
        basis = torch.linalg.pinv(spherical_harmonics(directions))
        return SphericalHarmonicsLight(basis @ values)


def checked_light(light: SphericalHarmonicsLight) -> SphericalHarmonicsLight:
    """Return a light that somebody else made, in single precision.

    Raises:
        ValueError: it is not one light of 9 x 3 finite coefficients.
    """
    coefficients = light.coefficients
    if coefficients.shape != (9, 3) or not bool(coefficients.isfinite().all()):
        raise ValueError(
            f"Got a light of shape {tuple(coefficients.shape)}, or with NaN or infinity; 9 x 3 "
            "finite coefficients are needed: red, green and blue for each of nine functions."
        )
    return SphericalHarmonicsLight(coefficients.detach().float())


def harmonics_from_radiance(
    directions: Float[Tensor, "N 3"], power: Float[Tensor, "N 3"]
) -> SphericalHarmonicsLight:
    """Return the light of distant sources.

    Args:
        directions: unit vectors to the sources, light axes.
        power: linear RGB radiance of each source times its solid angle.
    """
    basis = spherical_harmonics(directions) * _LAMBERT.to(directions)
    return SphericalHarmonicsLight(basis.T @ power)


def radiance_of_harmonics(
    light: SphericalHarmonicsLight, directions: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Return the smooth radiance whose light this is, at unit vectors in light axes; may be negative."""
    return spherical_harmonics(directions) @ (light.coefficients / _LAMBERT.to(directions)[:, None])


def even_directions(count: int) -> Float[Tensor, "count 3"]:
    """Return evenly spread unit vectors (a Fibonacci spiral)."""
    steps = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * steps / count
    angle = steps * math.pi * (3 - math.sqrt(5))
    radius = (1 - height * height).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)
