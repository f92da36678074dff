"""The basis of spherical harmonics is orthonormal, and lamps light the right side."""

import math

import pytest
import torch
from torch import Tensor

from lifemask.geometry.lighting import (
    SphericalHarmonicsLight,
    light_axes_from_camera,
    spherical_harmonics,
)
from lifemask.geometry.rotations import matrix_from_rotation_vector


def sphere(rings: int = 200) -> tuple[Tensor, Tensor]:
    """Return unit vectors all over the sphere and the solid angle of each."""
    z = (torch.arange(rings, dtype=torch.float64) + 0.5) / rings * 2 - 1
    around = (torch.arange(2 * rings, dtype=torch.float64) + 0.5) / rings * math.pi
    z, around = (grid.reshape(-1) for grid in torch.meshgrid(z, around, indexing="ij"))
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * around.cos(), radius * around.sin(), z], dim=-1)
    return directions, torch.full_like(z, 4 * math.pi / len(z))


def test_basis_is_orthonormal() -> None:
    directions, area = sphere()
    basis = spherical_harmonics(directions)
    gram = basis.T @ (basis * area[:, None])
    torch.testing.assert_close(gram, torch.eye(9, dtype=torch.float64), atol=2e-4, rtol=0)


def test_order_of_the_basis() -> None:
    """Each of 1, y, z, x, xy, yz, 3z²-1, xz, x²-y² changes sign with the right axes."""
    directions, _ = sphere(20)
    basis = spherical_harmonics(directions)
    odd = {"x": {3, 4, 7}, "y": {1, 4, 5}, "z": {2, 5, 7}}
    for axis, name in enumerate("xyz"):
        flipped = directions.clone()
        flipped[:, axis] *= -1
        sign = torch.tensor([-1.0 if k in odd[name] else 1.0 for k in range(9)]).double()
        torch.testing.assert_close(spherical_harmonics(flipped), basis * sign)


def test_ambient_light_shows_the_albedo_everywhere() -> None:
    directions, _ = sphere(10)
    shading = SphericalHarmonicsLight.ambient(0.7).shade(directions.float())
    torch.testing.assert_close(shading, torch.full_like(shading, 0.7))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "brightest"),
    [
        (0.0, 0.0, (0.0, 0.0, 1.0)),
        (math.pi / 2, 0.0, (1.0, 0.0, 0.0)),
        (0.0, math.pi / 2, (0.0, 1.0, 0.0)),
        (-math.pi / 4, 0.0, (-math.sqrt(0.5), 0.0, math.sqrt(0.5))),
    ],
)
def test_lamps_light_the_side_they_stand_on(
    azimuth: float, elevation: float, brightest: tuple[float, float, float]
) -> None:
    """The surface that faces the lamp is the brightest, with strength plus ambient light."""
    light = SphericalHarmonicsLight.from_direction(azimuth, elevation, strength=0.8, ambient=0.2)
    directions, _ = sphere(40)
    shading = light.shade(directions.float())[:, 0]
    cosine = directions @ torch.tensor(brightest).double()
    assert cosine[shading.argmax()] > cosine.max() - 0.002
    facing = light.shade(torch.tensor([brightest]))
    torch.testing.assert_close(facing, torch.full((1, 3), 1.0))


def test_lamp_is_lambertian_within_second_degree() -> None:
    """Ramamoorthi and Hanrahan: nine coefficients keep 99 % of clamped-cosine shading."""
    light = SphericalHarmonicsLight.from_direction(0.4, 0.3, strength=1.0, ambient=0.0)
    directions, area = sphere(60)
    lamp = torch.tensor([math.sin(0.4) * math.cos(0.3), math.sin(0.3), 0.0])
    lamp[2] = (1 - lamp @ lamp).sqrt()
    cosine = (directions @ lamp.double()).clamp(min=0)
    shading = light.shade(directions.float())[:, 0].double()
    scale = (shading * cosine * area).sum() / (cosine**2 * area).sum()
    residual = ((shading - scale * cosine) ** 2 * area).sum() / (shading**2 * area).sum()
    assert residual < 0.015


def test_light_axes_flip_down_and_forward() -> None:
    camera = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(light_axes_from_camera(camera), torch.tensor([[1.0, -2.0, -3.0]]))


def test_a_turned_light_shades_turned_normals_as_before() -> None:
    generator = torch.Generator().manual_seed(0)
    light = SphericalHarmonicsLight(torch.randn(9, 3, generator=generator))
    rotation = matrix_from_rotation_vector(torch.tensor([0.4, -0.9, 0.3]))
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=-1)
    before = light.shade(light_axes_from_camera(normals))
    after = light.turned(rotation).shade(light_axes_from_camera(normals @ rotation.T))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
