"""Predicts the fine normals of skin from a photo and from the normals of a smooth head.

The network sees what the smooth head leaves unexplained: the logarithm of the photo over that of the
shading. Which part of it is relief and which is colour depends on the direction of the light, so it
also gets the change of the shading with the normal. It predicts both parts.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.geometry.lighting import spherical_harmonics
from lifemask.io.colour import LUMINANCE
from lifemask.networks.encoder_decoder import EncoderDecoder

LEVELS = 4
"""How often the resolution is halved: sides of images are multiples of 2^LEVELS."""

_LIGHT_STRIDE = 3
_LIGHT_STEPS = 3
_RIDGE = 2e-3
_DARKEST_SHADING = 0.05
"""Smallest shading, in units of the bright part of the face."""
_DARKEST_PHOTO = 0.004
"""Linear light that is added before the logarithm."""


def log_luminance(photo: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 1 H W"]:
    """Return the logarithm of the luminance (Rec. 709) of linear RGB."""
    weights = photo.new_tensor(LUMINANCE)[:, None, None]
    return ((photo * weights).sum(-3, keepdim=True).clamp(min=0) + _DARKEST_PHOTO).log()


def head_mask(normals: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Return 1 where there is a normal, else 0."""
    return (normals.square().sum(1, keepdim=True) > 0.25).to(normals)


class ReliefNetwork(nn.Module):
    """Log photo and smooth normals to fine normals and log albedo, in image space."""

    def __init__(self, width: int = 16) -> None:
        """Start from random weights; an untrained network predicts no relief.

        Args:
            width: channels at the full resolution.
        """
        super().__init__()
        self.layers = EncoderDecoder(9, 4, levels=LEVELS, width=width)

    def forward(
        self,
        log_photo: Float[Tensor, "B 1 H W"],
        smooth: Float[Tensor, "B 3 H W"],
        skin: Float[Tensor, "B 1 H W"],
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 1 H W"]]:
        """Return unit fine normals, 0 beside the head, and the log albedo up to a constant.

        Args:
            log_photo: from `log_luminance`; its level does not matter.
            smooth: unit normals of the smooth head in light axes, 0 beside it.
            skin: 1 where bare skin tells the light, else 0.
        """
        centred = log_photo - _mean(log_photo, skin)
        light = grey_light(centred.exp(), smooth, skin)
        head = head_mask(smooth)
        change = self.layers(_features(centred, smooth, light, head)).float()
        fine = F.normalize(smooth + change[:, :3], dim=1, eps=1e-6) * head
        return fine, change[:, 3:]


def grey_light(
    photo: Float[Tensor, "B 1 H W"],
    normals: Float[Tensor, "B 3 H W"],
    skin: Float[Tensor, "B 1 H W"],
    *,
    ridge: float = _RIDGE,
) -> Float[Tensor, "B 9"]:
    """Return the grey light that explains skin of one colour: robust least squares.

    Args:
        photo: linear luminance.
        normals: unit, light axes.
        skin: weight of each pixel, 0 or more.
        ridge: weight of the squares of directed light against the mean square of the errors.
    """
    image, axes, given = (
        part[..., ::_LIGHT_STRIDE, ::_LIGHT_STRIDE].flatten(2).transpose(1, 2)
        for part in (photo, normals, skin)
    )
    basis = spherical_harmonics(axes)
    least = torch.full((9,), ridge, device=photo.device)
    least[0] = 1e-6
    weight, light = given, basis[:, 0, :, None]
    for _ in range(_LIGHT_STEPS):
        weighted = (basis * weight).transpose(1, 2)
        precision = torch.diag(least) * weight.sum(1, keepdim=True).clamp(min=1)
        light = torch.linalg.solve(weighted @ basis + precision, weighted @ image)
        error = (image - basis @ light).abs()
        spread = (error * given).sum(1, keepdim=True) / given.sum(1, keepdim=True).clamp(min=1)
        weight = given / (1 + (error / (2 * spread + 1e-5)).square())
    return light.squeeze(-1)


def _features(
    log_photo: Float[Tensor, "B 1 H W"],
    normals: Float[Tensor, "B 3 H W"],
    light: Float[Tensor, "B 9"],
    head: Float[Tensor, "B 1 H W"],
) -> Float[Tensor, "B 9 H W"]:
    """Return residual, log shading, normals, slope of the log shading by the normal, and the head."""
    shading = torch.einsum("bhwk,bk->bhw", spherical_harmonics(normals.movedim(1, -1)), light)[
        :, None
    ]
    bright = shading.flatten(1).quantile(0.95, 1)[:, None, None, None].clamp(min=1e-3)
    shading = shading.clamp(min=_DARKEST_SHADING * bright)
    slope = _shading_slope(normals, light)
    slope = (slope - (slope * normals).sum(1, keepdim=True) * normals) / shading
    log_shading = shading.log()
    return torch.cat(
        [
            (log_photo - log_shading).clamp(-2, 2) * head,
            (log_shading - bright.log()) * head,
            normals,
            (slope * head).clamp(-3, 3),
            head,
        ],
        1,
    )


def _shading_slope(
    normals: Float[Tensor, "B 3 H W"], light: Float[Tensor, "B 9"]
) -> Float[Tensor, "B 3 H W"]:
    """Return the gradient of the shading by the normal."""
    x, y, z = normals.unbind(1)
    first = math.sqrt(3 / (4 * math.pi))
    second = math.sqrt(15 / (4 * math.pi))
    sixth, eighth = 6 * math.sqrt(5 / (16 * math.pi)), 2 * math.sqrt(15 / (16 * math.pi))
    _, b, c, a, xy, yz, zz, xz, xx = (part[:, None, None] for part in light.unbind(1))
    return torch.stack(
        [
            first * a + second * (xy * y + xz * z) + eighth * xx * x,
            first * b + second * (xy * x + yz * z) - eighth * xx * y,
            first * c + second * (yz * y + xz * x) + sixth * zz * z,
        ],
        1,
    )


def _mean(image: Float[Tensor, "B 1 H W"], weight: Float[Tensor, "B 1 H W"]) -> Tensor:
    total = weight.sum((2, 3), keepdim=True).clamp(min=1)
    return (image * weight).sum((2, 3), keepdim=True) / total
