"""Conversion between sRGB, which files store, and linear light, which all code uses.

The curve of IEC 61966-2-1 is a short straight line near black, then a power of 2.4.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue in the luminance (Rec. 709)."""

_ROWS_AT_ONCE = 64
_BLOCKS_A_STRIP = 32
"""Number of rows of a reduced image that are computed at once."""


def linear_from_srgb(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return linear light of sRGB values; both nominally in [0, 1], not clamped.

    It is differentiable everywhere. Below zero the straight line continues.
    """
    curve = ((values.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(values <= 0.04045, values / 12.92, curve)


def srgb_from_linear(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return sRGB values of linear light; both nominally in [0, 1], not clamped.

    It is differentiable everywhere. Below zero the straight line continues.
    """
    curve = 1.055 * values.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(values <= 0.0031308, values * 12.92, curve)


def image_from_pixels(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 H W"]:
    """Return the linear RGB image in [0, 1] of 8-bit sRGB pixels."""
    table = _linear_of_byte()
    image = np.empty((3, *pixels.shape[:2]), np.float32)
    # Numpy converts indices to 64 bits, which needs a gigabyte for a large photo.
    for row in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(row, row + _ROWS_AT_ONCE)
        image[:, rows] = table[pixels[rows]].transpose(2, 0, 1)
    return torch.from_numpy(image)


def block_means(pixels: UInt8[np.ndarray, "H W 3"], block: int) -> Float[Tensor, "3 h w"]:
    """Return the mean linear RGB of square blocks of sRGB pixels, with little memory.

    Args:
        pixels: 8-bit sRGB.
        block: side of a block in pixels; blocks at the right and bottom edges may be smaller.
    """
    if block == 1:
        return image_from_pixels(np.ascontiguousarray(pixels))
    rows = block * _BLOCKS_A_STRIP
    strips = [
        torch.nn.functional.avg_pool2d(
            image_from_pixels(np.ascontiguousarray(pixels[row : row + rows]))[None],
            block,
            ceil_mode=True,
        )[0]
        for row in range(0, len(pixels), rows)
    ]
    return torch.cat(strips, dim=-2)


def pixels_from_image(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return 8-bit sRGB pixels of a linear RGB image, clamped to [0, 1] and rounded."""
    encoded = srgb_from_linear(image.detach().clamp(0, 1)).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(encoded.permute(1, 2, 0).cpu().numpy())


@cache
def _linear_of_byte() -> Float[np.ndarray, "256"]:
    return linear_from_srgb(torch.arange(256, dtype=torch.float64) / 255).float().numpy()
