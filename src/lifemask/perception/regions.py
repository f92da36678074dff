"""Square regions of a photo as affine maps, and the crops sampled from them.

A region is a 2x3 matrix that maps (u, v, 1), with u and v in [0, 1] from the top left of the crop,
to photo pixels (x right, y down, pixel centres at +0.5). In a mirrored region u goes from right to
left.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

Border = Literal["zeros", "border", "reflection"]
"""Values outside the photo: black, the nearest pixel, or the photo mirrored at its edge."""

_BLOCKS_A_STRIP = 64


def square_regions(
    centre: Float[Tensor, "*batch 2"],
    side: Float[Tensor, "*batch"],
    angle_radians: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 2 3"]:
    """Return squares around centres; a positive angle rotates the crop's +x towards photo +y."""
    cosine, sine = side * angle_radians.cos(), side * angle_radians.sin()
    axes = torch.stack([cosine, -sine, sine, cosine], dim=-1).unflatten(-1, (2, 2))
    origin = centre.unsqueeze(-1) - axes.sum(-1, keepdim=True) / 2
    return torch.cat([axes, origin], dim=-1)


def mirrored(regions: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """Return regions whose crops are flipped left to right."""
    u, v, origin = regions.unbind(-1)
    return torch.stack([-u, v, origin + u], dim=-1)


def to_photo(
    regions: Float[Tensor, "*batch 2 3"], points: Float[Tensor, "*batch N 2"]
) -> Float[Tensor, "*batch N 2"]:
    """Convert points in crop units to photo pixels."""
    return points @ regions[..., :2].transpose(-1, -2) + regions[..., 2].unsqueeze(-2)


def region_side(regions: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch"]:
    """Return the length of a side in photo pixels."""
    return regions[..., 0].norm(dim=-1)


def sample_regions(
    image: Float[Tensor, "C H W"],
    regions: Float[Tensor, "N 2 3"],
    size: int,
    *,
    border: Border = "zeros",
) -> Float[Tensor, "N C size size"]:
    """Sample crops bilinearly. Differentiable in the image and in the regions.

    There is no filter: reduce an image that is much finer than the crop before.
    """
    height, width = image.shape[-2:]
    steps = (torch.arange(size, dtype=image.dtype, device=image.device) + 0.5) / size
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).reshape(-1, 2)
    points = to_photo(regions.to(image), grid.expand(len(regions), -1, -1))
    scale = points.new_tensor([2.0 / width, 2.0 / height])
    # One call for all crops: their rows become one tall grid over one image.
    grid = (points * scale - 1.0).reshape(1, -1, size, 2)
    crops = F.grid_sample(image[None], grid, padding_mode=border, align_corners=False)
    return crops[0].unflatten(1, (len(regions), size)).transpose(0, 1)


def crop_photo(
    pixels: UInt8[np.ndarray, "H W 3"],
    regions: Float[Tensor, "N 2 3"],
    size: int,
    *,
    border: Border = "zeros",
) -> Float[Tensor, "N 3 size size"]:
    """Sample crops, sRGB in 0..1, from a photo of any size; finer photos are reduced by averaging.

    Only the part of the photo under the regions is read; large photos take no longer.
    """
    height, width = pixels.shape[:2]
    corners = regions.new_tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    reach = to_photo(regions, corners.expand(len(regions), 4, 2)).reshape(-1, 2)
    factor = max(1, int(region_side(regions).min() / size + 0.25))
    low = (reach.amin(0).floor() - 2 * factor).tolist()
    high = (reach.amax(0).ceil() + 2 * factor).tolist()
    # At least one block of pixels remains, also for regions outside the photo.
    x0, y0 = int(min(max(low[0], 0), width - 1)), int(min(max(low[1], 0), height - 1))
    x1, y1 = int(max(min(high[0], width), x0 + 1)), int(max(min(high[1], height), y0 + 1))
    part = _block_means(pixels[y0:y1, x0:x1], factor)
    image = torch.from_numpy(part).to(regions.device).permute(2, 0, 1).float() / 255.0
    offset = regions.new_tensor([[0.0, 0.0, x0], [0.0, 0.0, y0]])
    return sample_regions(image, (regions - offset) / factor, size, border=border)


def _block_means(pixels: UInt8[np.ndarray, "H W 3"], factor: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return the rounded means of blocks of pixels, a strip at a time to save memory."""
    if factor == 1:
        return np.array(pixels)
    rows = factor * _BLOCKS_A_STRIP
    strips = (Image.fromarray(pixels[row : row + rows]) for row in range(0, len(pixels), rows))
    return np.concatenate([np.asarray(strip.reduce(factor)) for strip in strips])
