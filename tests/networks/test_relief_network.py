"""The network for relief: an untrained one changes nothing, and the light explains the photo."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.networks.relief_network import (
    ReliefNetwork,
    _shading_slope,  # pyright: ignore[reportPrivateUsage]
    grey_light,
    log_luminance,
)
from lifemask.rendering.shading import shade_normals


def ball(side: int = 64) -> Tensor:
    """Normals of a ball that fills the image."""
    steps = (torch.arange(side) + 0.5) / side * 2 - 1
    x, y = torch.meshgrid(steps, -steps, indexing="xy")
    inside = x**2 + y**2 < 0.9
    z = (1 - x**2 - y**2).clamp(min=0).sqrt()
    return torch.stack([x, y, z])[None] * inside


def test_an_untrained_network_returns_the_smooth_normals() -> None:
    torch.manual_seed(0)
    normals = ball()
    skin = (normals != 0).any(1, keepdim=True).float()
    photo = torch.rand(1, 3, 64, 64) * skin
    fine, log_albedo = ReliefNetwork(4).eval()(log_luminance(photo), normals, skin)
    torch.testing.assert_close(fine, F.normalize(normals, dim=1) * skin)
    assert log_albedo.abs().max() == 0


def test_the_light_of_skin_of_one_colour_is_found() -> None:
    light = SphericalHarmonicsLight.from_direction(0.7, 0.3, strength=0.8, ambient=0.3)
    normals = ball()
    skin = (normals != 0).any(1, keepdim=True).float()
    shading = shade_normals(normals[0], light)[None, :1]
    spots = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) < 0.1
    photo = torch.where(spots, 0.2 * shading, 0.5 * shading)
    found = SphericalHarmonicsLight(grey_light(photo, normals, skin)[0, :, None].expand(9, 3))
    error = (shade_normals(normals[0], found)[:1] - 0.5 * shading[0]).abs() * skin[0]
    assert error.max() < 0.03


def test_the_slope_of_the_shading_is_its_derivative() -> None:
    torch.manual_seed(1)
    light = torch.randn(1, 9)
    normals = F.normalize(torch.randn(1, 3, 4, 4), dim=1)
    normals.requires_grad_()
    coefficients = light[0, :, None].expand(9, 3)
    shading = shade_normals(normals[0], SphericalHarmonicsLight(coefficients))[0]
    (expected,) = torch.autograd.grad(shading.sum(), normals)
    torch.testing.assert_close(_shading_slope(normals, light), expected, rtol=1e-4, atol=1e-5)
    assert not math.isnan(float(expected.sum()))
