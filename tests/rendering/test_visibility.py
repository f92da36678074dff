"""What a mesh hides from light, on shapes where the answer is known."""

import math

import pytest
import torch

from lifemask.geometry.environments import DIRECTIONS, Environment, environment_directions
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.rendering.visibility import shares_at, unhidden_share, visible_directions

UP = torch.tensor([[0.0, 1.0, 0.0]])


def square(height: float, side: float) -> torch.Tensor:
    """Return the corners of a horizontal square."""
    half = side / 2
    return torch.tensor(
        [[-half, height, half], [half, height, half], [half, height, -half], [-half, height, -half]]
    )


TWO = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_a_plane_hides_what_is_below_it() -> None:
    floor = square(0.0, 1.0)
    directions = environment_directions()[::6]
    visible = visible_directions(torch.zeros(1, 3), UP, directions, floor, TWO)[0]
    assert (visible[directions[:, 1] > 0.3] == 1).all()
    assert (visible[directions[:, 1] < -0.3] == 0).all()


def test_a_roof_takes_its_part_of_the_sky() -> None:
    """A square of side 2a, at height h over a point, has the form factor of four corners (Howell, B-4)."""
    height, half = 0.15, 0.2
    scene = torch.cat([square(0.0, 0.6), square(height, 2 * half)])
    triangles = torch.cat([TWO, TWO + 4])
    sky = Environment.from_harmonics(SphericalHarmonicsLight.ambient())
    (share,) = shares_at(torch.zeros(1, 3), UP, scene, triangles, [sky])
    b = half / height
    corner = b / math.sqrt(1 + b * b) * math.atan(b / math.sqrt(1 + b * b)) / math.pi
    assert float(share[0, 0]) == pytest.approx(1 - 4 * corner, abs=0.06)


def test_without_light_nothing_is_hidden() -> None:
    share = unhidden_share(
        torch.zeros(1, DIRECTIONS), UP, environment_directions(), torch.zeros(DIRECTIONS, 3)
    )
    assert (share == 1).all()
