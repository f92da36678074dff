"""Shape from shading: a smooth change of a surface explains what its shading leaves unexplained.

A height over the image is added to a surface whose normals are known. It makes the fine part of the log
shading nearer to that of the log photo, and stays smooth: wide differences are taken for albedo and
light. As in FineNet of Richardson et al., "Learning detailed face reconstruction from a single image"
(CVPR 2017), equations 9 to 12, but on one photo, and solved in closed form: the log shading is linear
in small slopes, so each step is a linear least-squares problem (conjugate gradients).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import spherical_harmonics

SMOOTHNESS = 15.0
"""Weight of the squared curvature of the height, in pixels, against squared log light."""
_FINE_PIXELS = 4.0
"""Standard deviation of the blur whose result is taken for albedo and light."""
_ROBUST = 0.15
"""Log light beyond which differences lose weight: hairs, marks, shadows."""
_STEPS, _SOLVER_STEPS = 2, 30
_FLATTEST = 0.25
"""Least component of normals towards the viewer of pixels that take part."""
_DARKEST = 0.03
"""Least shading, in units of the mean over the surface."""
_SLOPE_STEP = 1e-2


def shape_from_shading(
    log_photo: Float[Tensor, "B 1 H W"],
    normals: Float[Tensor, "B 3 H W"],
    light: Float[Tensor, "B 9"],
    skin: Float[Tensor, "B 1 H W"],
    *,
    smoothness: float = SMOOTHNESS,
) -> Float[Tensor, "B 3 H W"]:
    """Return unit normals whose shading explains a photo better; 0 where there are none.

    Args:
        log_photo: log luminance; its level does not matter.
        normals: unit, light axes; 0 beside the surface.
        light: grey harmonics.
        skin: how far each pixel shows bare skin, 0 to 1.
        smoothness: see `SMOOTHNESS`.
    """
    weight = (skin > 0.5).to(normals) * (normals[:, 2:] > _FLATTEST)
    around = _blurred(weight).clamp(min=1e-3)
    z = normals[:, 2:].clamp(min=_FLATTEST)
    slopes = -normals[:, :2] / z
    level = _shading(slopes, light).flatten(1).mean(1)[:, None, None, None]
    least = _DARKEST * level.abs().clamp(min=1e-3)

    def log_shading(at: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 1 H W"]:
        return torch.maximum(_shading(at, light), least).log()

    def fine(image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        return image - _blurred(image * weight) / around

    height = torch.zeros_like(log_photo)
    robust = weight
    for _ in range(_STEPS):
        at = slopes + _gradient(height)
        step = torch.tensor([_SLOPE_STEP, 0.0]).to(at).view(1, 2, 1, 1)
        by_slope = [
            (log_shading(at + change) - log_shading(at - change)) / (2 * _SLOPE_STEP)
            for change in (step, step.flip(1))
        ]
        derivative = torch.cat(by_slope, 1) * weight
        rest = fine(log_photo - log_shading(at))
        robust = weight / (1 + (rest / _ROBUST).square()).sqrt()

        def energy(
            change: Tensor,
            rest: Tensor = rest,
            derivative: Tensor = derivative,
            robust: Tensor = robust,
            height: Tensor = height,
        ) -> Tensor:
            explained = fine((derivative * _gradient(change)).sum(1, keepdim=True))
            bend = _curvature(height + change)
            return 0.5 * (robust * (rest - explained).square()).sum() + (
                smoothness * bend.square().sum() + 1e-3 * (height + change).square().sum()
            )

        height = height + _minimum(energy, torch.zeros_like(height))
    moved = slopes + _gradient(height)
    refined = F.normalize(torch.cat([-moved, torch.ones_like(z)], 1), dim=1)
    return torch.where(weight > 0, refined, normals)


def _minimum(energy: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the minimum of a quadratic energy by conjugate gradients."""

    def slope(at: Tensor) -> Tensor:
        with torch.enable_grad():
            at = at.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(energy(at), at)
        return found

    offset = slope(start)
    found, residual = start, -offset
    direction, size = residual, residual.square().sum()
    for _ in range(_SOLVER_STEPS):
        if float(size) < 1e-12:
            break
        turned = slope(direction) - slope(torch.zeros_like(direction))
        length = size / (direction * turned).sum().clamp(min=1e-20)
        found = found + length * direction
        residual = residual - length * turned
        larger = residual.square().sum()
        direction, size = residual + larger / size * direction, larger
    return found


def _shading(slopes: Float[Tensor, "B 2 H W"], light: Float[Tensor, "B 9"]) -> Tensor:
    normals = F.normalize(torch.cat([-slopes, torch.ones_like(slopes[:, :1])], 1), dim=1)
    basis = spherical_harmonics(normals.movedim(1, -1))
    return torch.einsum("bhwk,bk->bhw", basis, light)[:, None]


def _gradient(height: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2 H W"]:
    """Return the slopes of a height in pixels, to the right and upwards; 0 at the border."""
    right = F.pad((height[..., 2:] - height[..., :-2]) / 2, (1, 1, 0, 0))
    up = F.pad((height[..., :-2, :] - height[..., 2:, :]) / 2, (0, 0, 1, 1))
    return torch.cat([right, up], 1)


def _curvature(height: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    return height - F.avg_pool2d(F.pad(height, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _blurred(image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    # Out of place, as gradients pass through it.
    radius = round(3 * _FINE_PIXELS)
    steps = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (steps / _FINE_PIXELS) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    across = F.conv2d(image, kernel, padding=(0, radius))
    return F.conv2d(across, kernel.mT, padding=(radius, 0))
