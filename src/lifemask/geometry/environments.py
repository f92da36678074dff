"""Distant light by its directions, so that a head can shade itself.

Nine spherical harmonics describe how light falls on a surface that nothing hides. What hides it needs
to know from where the light comes; an environment holds both.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import (
    SphericalHarmonicsLight,
    checked_light,
    even_directions,
    harmonics_from_radiance,
    radiance_of_harmonics,
)

DIRECTIONS = 192
"""Number of directions of an environment."""
_SHARPNESS = 45.0
"""Each point of the sky counts for the directions around it by exp(sharpness * (cosine - 1)): a lamp
then has soft shadows, and no step shows between directions."""
_PANORAMA_ROWS = 64
"""Rows to which panoramas are reduced; a row has 2.8 degrees."""


@dataclass(frozen=True)
class Environment:
    """Distant light from everywhere, in light axes (+x right, +y up, +z to the viewer)."""

    light: SphericalHarmonicsLight
    """What falls on a surface that nothing hides."""
    radiance: Float[Tensor, "K 3"]
    """Linear RGB from each of `environment_directions()`, times its solid angle, over pi; not negative."""

    @classmethod
    def from_harmonics(cls, light: SphericalHarmonicsLight) -> "Environment":
        """Return the environment of a light that is known only by its harmonics."""
        radiance = radiance_of_harmonics(light, environment_directions()).clamp(min=0)
        return cls(light, radiance * (4 / DIRECTIONS))

    @classmethod
    def from_lamp(
        cls,
        azimuth_radians: float,
        elevation_radians: float,
        *,
        strength: float = 1.0,
        ambient: float = 0.3,
    ) -> "Environment":
        """Return a small lamp plus ambient light; arguments are those of `from_direction`."""
        light = SphericalHarmonicsLight.from_direction(
            azimuth_radians, elevation_radians, strength=strength, ambient=ambient
        )
        cosine = math.cos(elevation_radians)
        lamp = torch.tensor(
            [
                math.sin(azimuth_radians) * cosine,
                math.sin(elevation_radians),
                math.cos(azimuth_radians) * cosine,
            ]
        )
        shares = _shares(lamp[None])[:, 0]
        radiance = strength * shares + ambient / DIRECTIONS * 4
        return cls(light, radiance[:, None].expand(-1, 3).contiguous())

    @classmethod
    def from_panorama(
        cls, panorama: Float[Tensor, "3 H W"], *, turn_degrees: float = 0.0
    ) -> "Environment":
        """Return the environment that a panorama shows.

        Args:
            panorama: linear RGB by longitude (columns) and latitude (rows, from the zenith). Its middle
                is what a viewer of the head sees straight ahead, so it is behind the head.
            turn_degrees: turns it about the vertical axis; its middle moves to the right.
        """
        columns = min(panorama.shape[-1], 2 * _PANORAMA_ROWS)
        rows = min(panorama.shape[-2], _PANORAMA_ROWS)
        small = F.adaptive_avg_pool2d(panorama[None].float(), (rows, columns))[0]
        latitude = math.pi * (0.5 - (torch.arange(rows) + 0.5) / rows)
        longitude = 2 * math.pi * ((torch.arange(columns) + 0.5) / columns - 0.5)
        longitude = longitude + math.radians(turn_degrees)
        level = latitude.cos()[:, None]
        directions = torch.stack(
            [
                level * longitude.sin(),
                latitude.sin()[:, None].expand(rows, columns),
                -level * longitude.cos(),
            ],
            -1,
        ).reshape(-1, 3)
        angles = (level * (2 * math.pi**2 / (rows * columns))).expand(rows, columns).reshape(-1, 1)
        power = small.reshape(3, -1).T * angles
        light = harmonics_from_radiance(directions, power)
        return cls(light, _shares(directions) @ power / math.pi)

    def scaled(self, factor: float) -> "Environment":
        """Return the same environment, brighter or darker."""
        light = SphericalHarmonicsLight(self.light.coefficients * factor)
        return Environment(light, self.radiance * factor)


def environment_directions() -> Float[Tensor, "K 3"]:
    """Return the evenly spread unit vectors that environments are sampled at, light axes."""
    return even_directions(DIRECTIONS).float()


def checked_environment(environment: Environment) -> Environment:
    """Return an environment that somebody else made, in single precision.

    Raises:
        ValueError: its light is not one of 9 x 3 finite coefficients, or its radiance is not one of K x 3
            finite numbers from 0.
    """
    radiance = environment.radiance
    if radiance.shape != (DIRECTIONS, 3) or not bool((radiance.isfinite() & (radiance >= 0)).all()):
        raise ValueError(
            f"Got an environment whose radiance has the shape {tuple(radiance.shape)}, or is negative "
            f"or not finite; {DIRECTIONS} x 3 numbers from 0 are needed. Make it with from_panorama, "
            "from_lamp or from_harmonics."
        )
    return Environment(checked_light(environment.light), radiance.detach().float())


def brightness(light: SphericalHarmonicsLight) -> float:
    """Return the mean luminance of a white ball; sides count less, the farther they are turned away."""
    directions = even_directions(256).float()
    shading = light.shade(directions).clamp(min=0)
    weights = 1 + directions[:, 2]
    mean = (shading * weights[:, None]).sum(0) / weights.sum()
    return float(mean @ torch.tensor([0.2126, 0.7152, 0.0722]))


def _shares(points: Float[Tensor, "N 3"]) -> Float[Tensor, "K N"]:
    """Return how much each point of the sky counts for each direction; columns sum to 1."""
    return ((environment_directions() @ points.T - 1) * _SHARPNESS).softmax(0)
