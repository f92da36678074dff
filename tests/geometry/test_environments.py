"""Environments agree with the harmonics of the same light, and sides are where they should be."""

import math

import pytest
import torch

from lifemask.geometry.environments import (
    DIRECTIONS,
    Environment,
    brightness,
    checked_environment,
    environment_directions,
)
from lifemask.geometry.lighting import SphericalHarmonicsLight, even_directions


def falling(environment: Environment, normals: torch.Tensor) -> torch.Tensor:
    """Return the light on surfaces, summed over all directions."""
    return (normals @ environment_directions().T).clamp(min=0) @ environment.radiance


def test_a_white_sky_shades_everything_by_one() -> None:
    environment = Environment.from_panorama(torch.ones(3, 16, 32))
    normals = even_directions(50).float()
    torch.testing.assert_close(
        environment.light.shade(normals), torch.ones(50, 3), atol=0.005, rtol=0
    )
    torch.testing.assert_close(falling(environment, normals), torch.ones(50, 3), atol=0.02, rtol=0)
    assert brightness(environment.light) == pytest.approx(1, abs=0.005)
    assert brightness(environment.scaled(2.0).light) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_directions_and_harmonics_are_the_same_light(seed: int) -> None:
    """A positive smooth light: the sum over directions is the shading of its harmonics."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(9, 3, generator=generator) * 0.1
    coefficients[0] = 3.0
    light = SphericalHarmonicsLight(coefficients)
    normals = even_directions(40).float()
    shading = light.shade(normals)
    torch.testing.assert_close(
        falling(Environment.from_harmonics(light), normals), shading, atol=0.02, rtol=0.02
    )


@pytest.mark.parametrize(
    ("column", "turn", "direction"),
    [
        (16, 0, (0, 0, -1)),  # the middle is behind the head
        (24, 0, (1, 0, 0)),  # its right is at the right of the picture
        (16, 90, (1, 0, 0)),
        (16, 180, (0, 0, 1)),
        (8, 0, (-1, 0, 0)),
    ],
)
def test_sides_of_a_panorama(column: int, turn: float, direction: tuple[int, int, int]) -> None:
    panorama = torch.zeros(3, 16, 32)
    panorama[:, 7:9, column - 1 : column + 1] = 100.0
    environment = Environment.from_panorama(panorama, turn_degrees=turn)
    towards = environment.radiance.sum(1) @ environment_directions()
    expected = torch.tensor(direction, dtype=torch.float32)
    assert float(torch.nn.functional.normalize(towards, dim=0) @ expected) > 0.99
    facing, away = environment.light.shade(torch.stack([expected, -expected]))[:, 0]
    assert facing > 5 * away.abs()


def test_the_top_row_is_the_zenith() -> None:
    panorama = torch.zeros(3, 16, 32)
    panorama[:, :3] = 1.0
    up = Environment.from_panorama(panorama).light.shade(torch.tensor([[0.0, 1, 0], [0, -1, 0]]))
    assert up[0, 0] > 5 * up[1, 0].abs()


def test_a_lamp_has_the_harmonics_of_a_lamp() -> None:
    lamp = Environment.from_lamp(0.7, 0.3, strength=0.8, ambient=0.2)
    light = SphericalHarmonicsLight.from_direction(0.7, 0.3, strength=0.8, ambient=0.2)
    torch.testing.assert_close(lamp.light.coefficients, light.coefficients)
    top = math.sin(0.7) * math.cos(0.3), math.sin(0.3), math.cos(0.7) * math.cos(0.3)
    towards = falling(lamp, torch.tensor([top]))[0, 0]
    assert float(towards) == pytest.approx(1.0, abs=0.05)


def test_environments_of_callers_are_checked() -> None:
    light = SphericalHarmonicsLight.ambient()
    for radiance in (torch.ones(4, 3), -torch.ones(DIRECTIONS, 3), torch.full((192, 3), torch.nan)):
        with pytest.raises(ValueError, match="192 x 3 numbers"):
            checked_environment(Environment(light, radiance))
