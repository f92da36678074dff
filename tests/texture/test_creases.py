"""Creases are shadow, moles are colour."""

import pytest
import torch

from lifemask.texture.creases import crease_shadow

SIZE, SCALE = 128, 1.8


def _removed(dark: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Return the share of a dark shape that is taken for shadow."""
    everywhere = torch.ones(SIZE, SIZE)
    shadow = crease_shadow(-0.8 * dark, weight * everywhere, everywhere, SCALE)
    assert bool((shadow <= 0).all())
    return (-shadow[dark > 0.9] / 0.8).mean()


def _axes() -> tuple[torch.Tensor, torch.Tensor]:
    along = (torch.arange(SIZE) - SIZE / 2) / SCALE
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x, y


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_a_long_dark_line_is_shadow(degrees: int) -> None:
    x, y = _axes()
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    across = x * angle.sin() + y * angle.cos()
    assert _removed(torch.exp(-((across / 0.8) ** 2))) > 0.6


@pytest.mark.parametrize("millimetres", [0.8, 1.5])
def test_a_round_spot_stays(millimetres: float) -> None:
    x, y = _axes()
    assert _removed(torch.exp(-((x**2 + y**2) / millimetres**2))) < 0.1


def test_fine_texture_stays() -> None:
    noise = 0.04 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(SIZE, SIZE)
    shadow = crease_shadow(noise, everywhere, everywhere, SCALE)
    assert shadow.abs().mean() < 0.15 * noise.abs().mean()


def test_hidden_texels_have_none() -> None:
    _, y = _axes()
    assert _removed(torch.exp(-((y / 0.8) ** 2)), weight=0.0) == 0
