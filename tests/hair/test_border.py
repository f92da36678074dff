"""The border of the hair is smooth, whatever the grid on which the hair is known."""

import torch

from lifemask.hair.shell import border_distance


def cylinder(rows: int, columns: int) -> torch.Tensor:
    """Return points of a cylinder of 8 cm radius and 20 cm height."""
    height = torch.linspace(0.1, -0.1, rows)
    angle = torch.arange(columns) / columns * 2 * torch.pi
    y, a = torch.meshgrid(height, angle, indexing="ij")
    return torch.stack([0.08 * a.sin(), y, 0.08 * a.cos()], dim=-1)


def test_the_distance_from_a_level_border_is_the_height_above_it() -> None:
    points = cylinder(80, 200)
    distance = border_distance((points[..., 1] > 0.013).float(), points)
    expected = (points[..., 1] - 0.013).clamp(-0.05, 0.05)
    torch.testing.assert_close(distance, expected, atol=0.0015, rtol=0)


def test_a_border_across_the_cells_has_no_steps() -> None:
    """A helix crosses rows of 2.5 mm; the border that it gives stays far nearer to it than a cell."""
    points = cylinder(80, 200)
    angle = torch.arange(200) / 200 * 2 * torch.pi
    away = points[..., 1] - 0.02 * angle.sin()
    distance = border_distance((away > 0).float(), points)
    near = away.abs() < 0.004
    slope = torch.sqrt(1 + (0.25 * angle.cos()) ** 2)
    error = distance - away / slope
    assert float(error[near].abs().mean()) < 0.0006
    assert float(error[near].abs().max()) < 0.0015


def test_without_a_border_all_is_deep_inside_or_far_outside() -> None:
    points = cylinder(20, 30)
    assert float(border_distance(torch.ones(20, 30), points).min()) == float(torch.tensor(0.05))
    assert float(border_distance(torch.zeros(20, 30), points).max()) == -float(torch.tensor(0.05))
