"""JPEG's change of a picture: coarse colours and rounded cosine waves in blocks of 8 x 8 pixels."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# ITU-T T.81, tables K.1 and K.2.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)  # fmt: skip
# JFIF: luminance and two colour differences of sRGB.
_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def compressed(
    pictures: Float[Tensor, "N 3 H W"], quality: Float[Tensor, "N"]
) -> Float[Tensor, "N 3 H W"]:
    """Return sRGB pictures in [0, 1] after JPEG with halved colour resolution.

    Args:
        pictures: of any size.
        quality: 1 to 99 as in libjpeg.
    """
    height, width = pictures.shape[-2:]
    matrix = pictures.new_tensor(_YCBCR)
    padded = F.pad(pictures, (0, -width % 16, 0, -height % 16), mode="replicate")
    planes = torch.einsum("ij,njhw->nihw", matrix, padded) * 255
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    luminance = _rounded(planes[:, :1] - 128, pictures.new_tensor(_LUMINANCE), scale) + 128
    colour = F.avg_pool2d(planes[:, 1:], 2)
    colour = _rounded(colour, pictures.new_tensor(_CHROMINANCE), scale)
    colour = F.interpolate(colour, scale_factor=2.0, mode="bilinear", align_corners=False)
    planes = torch.cat([luminance, colour], 1) / 255
    back = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), planes)
    return back[..., :height, :width].clamp(0, 1)


def _rounded(
    planes: Float[Tensor, "N C H W"], table: Float[Tensor, "8 8"], scale: Float[Tensor, "N"]
) -> Float[Tensor, "N C H W"]:
    """Return planes with cosine coefficients of blocks rounded to multiples of the scaled table."""
    waves = _cosine_waves().to(planes)
    steps = (table * scale[:, None, None]).round().clamp(1, 255)[:, None, None, :, None, :]
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
    spectrum = torch.einsum("uy,vx,ncaybx->ncaubv", waves, waves, blocks)
    spectrum = (spectrum / steps).round() * steps
    blocks = torch.einsum("uy,vx,ncaubv->ncaybx", waves, waves, spectrum)
    return blocks.flatten(4, 5).flatten(2, 3)


@cache
def _cosine_waves() -> Float[Tensor, "8 8"]:
    """Return the orthonormal cosine transform, one wave in each row."""
    place = torch.arange(8, dtype=torch.float64)
    waves = torch.cos(math.pi / 8 * (place + 0.5) * place[:, None]) / 2
    waves[0] /= math.sqrt(2)
    return waves.float()
