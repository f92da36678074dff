"""Light for test photos: a smooth environment and one lamp that casts shadows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from lifemask.geometry.lighting import spherical_harmonics

Array = np.ndarray


@dataclass(frozen=True)
class TestLight:
    """Distant light in light axes: +x image right, +y up, +z to the viewer."""

    environment: Float[Array, "9 3"]
    """Irradiance over pi of all light except the lamp, as in `lifemask.geometry.lighting`."""
    direction: Float[Array, "3"]
    """Unit vector towards the lamp."""
    lamp: Float[Array, "3"]
    """Linear RGB shading of the lamp alone on a surface that faces it."""

    __test__ = False  # Despite its name, pytest must not collect this class.

    def shading(
        self,
        normals: Float[Array, "*batch 3"],
        *,
        lit: Float[Array, "*batch"] | float = 1.0,
        open_sky: Float[Array, "*batch"] | float = 1.0,
    ) -> Float[Array, "*batch 3"]:
        """Return linear RGB shading, which is the colour of a white surface.

        Args:
            normals: unit vectors, light axes.
            lit: share of the lamp's light that reaches the point.
            open_sky: share of the environment's light that reaches the point.
        """
        smooth = spherical_harmonics(torch.from_numpy(normals.astype(np.float64))).numpy()
        environment = np.maximum(smooth @ self.environment, 0) * np.asarray(open_sky)[..., None]
        cosine = np.maximum(normals @ self.direction, 0) * lit
        return environment + cosine[..., None] * self.lamp


def random_light(generator: np.random.Generator, *, lamp_share: float | None = None) -> TestLight:
    """Return a random light whose shading on a face is about 1.

    Args:
        generator: source of randomness.
        lamp_share: the lamp's share of the light, 0 to 1; None: random.
    """
    share = 0.75 * generator.beta(1.3, 1.3) if lamp_share is None else lamp_share
    azimuth = np.radians(generator.uniform(-70, 70))
    elevation = np.radians(generator.uniform(-10, 65))
    direction = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    warmth = generator.normal(0, 0.12, 2)
    tints = np.exp(warmth[:, None] * np.array([0.6, 0.0, -0.8]))
    environment = np.zeros((9, 3))
    # First the constant, then degree 1 (light mostly from above), then weaker degree 2.
    white = 2 * np.sqrt(np.pi)
    environment[0] = white
    slopes = np.array([0.3, 0.1, 0.0]) + generator.normal(0, 0.32, 3)
    environment[1:4] = slopes[:, None] * white / np.sqrt(3)
    environment[4:] = generator.normal(0, 0.10, (5, 1)) * white / np.sqrt(15)
    environment[1:] += generator.normal(0, 0.015, (8, 3)) * white
    exposure = np.exp(generator.normal(0.0, 0.18))
    return TestLight(
        environment * (1 - share) * exposure * tints[0],
        direction,
        share * 1.6 * exposure * tints[1],
    )


def sphere_normals(count: int = 400) -> Float[Array, "N 3"]:
    """Return evenly spread unit vectors, light axes, on the half sphere that faces the viewer."""
    k = np.arange(2 * count) + 0.5
    height, angle = 1 - k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1)
    return points[:count]
