"""Random light as in photos: soft light from all directions, and often a lamp, window or sun."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics

# The clamped cosine max(0, n . d) in harmonics of d and n, by degree: Ramamoorthi and Hanrahan,
# "An efficient representation for irradiance environment maps", 2001, eq. 8.
_CLAMPED_COSINE = torch.tensor(
    [math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5, dtype=torch.float32
)


@dataclass(frozen=True)
class LightRig:
    """Soft light and one lamp that casts shadows, in light axes (+y up, +z to the camera)."""

    soft: Float[Tensor, "*batch 9 3"]
    """Spherical harmonics of the soft light's irradiance over pi."""
    direction: Float[Tensor, "*batch 3"]
    """Unit vector to the lamp."""
    lamp: Float[Tensor, "*batch 3"]
    """Linear RGB shading that the lamp gives a surface facing it; 0 without a lamp."""
    size: Float[Tensor, "*batch"]
    """Apparent size of the lamp: tangent of its half angle. It decides how soft shadows are."""

    def scaled(self, gain: Float[Tensor, "*batch 3"]) -> "LightRig":
        """Return the light multiplied by exposure and white balance, linear RGB factors."""
        return LightRig(self.soft * gain.unsqueeze(-2), self.direction, self.lamp * gain, self.size)

    def nearest_harmonics(self) -> SphericalHarmonicsLight:
        """Return soft light and lamp together as distant light without shadows."""
        basis = spherical_harmonics(self.direction) * _CLAMPED_COSINE.to(self.direction)
        return SphericalHarmonicsLight(self.soft + basis.unsqueeze(-1) * self.lamp.unsqueeze(-2))


def sample_light(
    rng: np.random.Generator, config: SyntheticConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return soft harmonics (9,3), the lamp's direction (3,), its colour (3,) and its size.

    The light's mean strength is about 1: exposure comes later.
    """
    warmth = 0.25 * rng.standard_normal()
    coefficients = np.zeros((9, 3))
    coefficients[0] = _temperature(warmth) / 0.28209
    # Light from the sky or the floor, and one or two wide lights of the room.
    vertical = rng.normal(0.25, 0.3)
    coefficients += (
        _lobe(np.array([0.0, 1.0, 0.0])) * vertical * _temperature(warmth - 0.2 * rng.random())
    )
    for _ in range(rng.integers(1, 4)):
        direction = _direction(rng, behind=0.25)
        strength = rng.uniform(0.1, 0.8)
        colour = _temperature(warmth + 0.25 * rng.standard_normal())
        if rng.random() < 0.1:
            colour = colour * np.exp(0.3 * rng.standard_normal(3))
        coefficients += _lobe(direction) * strength * colour
    lamp, size = np.zeros(3), 1.0
    direction = _direction(rng, behind=0.12)
    if rng.random() < config.directional_light:
        # Most photos of people have soft light: the sky, a window, a flash reflected by a ceiling.
        hard = rng.random() < 0.3
        share = rng.uniform(0.3, 0.85) if hard else rng.uniform(0.2, 0.75)
        size = math.exp(
            rng.uniform(math.log(0.01 if hard else 0.1), math.log(0.1 if hard else 0.5))
        )
        lamp = 2.2 * share * _temperature(warmth + 0.25 * rng.standard_normal())
        coefficients *= 1 - share
    return coefficients, direction, lamp, size


def _direction(rng: np.random.Generator, *, behind: float) -> np.ndarray:
    """Return a unit vector to a light: mostly from above and in front, seldom from behind."""
    azimuth = math.radians(50) * rng.standard_normal()
    if rng.random() < behind:
        azimuth += math.pi
    elevation = np.clip(math.radians(25) + math.radians(28) * rng.standard_normal(), -0.9, 1.4)
    flat = math.cos(elevation)
    return np.array([math.sin(azimuth) * flat, math.sin(elevation), math.cos(azimuth) * flat])


def _temperature(warmth: float) -> np.ndarray:
    """Return linear RGB of mean about 1; positive is warm like a bulb, negative cool like shade."""
    return np.exp(np.array([0.5, 0.05, -0.55]) * warmth)


def _lobe(direction: np.ndarray) -> np.ndarray:
    """Return the harmonics (9,1) of a distant lamp that gives a surface facing it shading 1."""
    basis = spherical_harmonics(torch.from_numpy(direction)) * _CLAMPED_COSINE.double()
    return basis.numpy()[:, None]
