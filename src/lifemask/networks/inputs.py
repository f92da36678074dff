"""From framed photos to what a backbone reads: its colour space, its size, more channels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.io.colour import srgb_from_linear


def network_input(
    photo: Float[Tensor, "batch 3 S S"],
    size: int,
    *,
    beside: Float[Tensor, "batch C S S"] | None = None,
) -> Float[Tensor, "batch channels size size"]:
    """Return images for a backbone that was made for sRGB.

    Args:
        photo: linear RGB in [0, 1].
        size: pixels on a side of the result; reduced with antialiasing, bilinear.
        beside: more channels, such as a landmark map or rendered feedback; they stay as they are.
    """
    images = srgb_from_linear(photo)
    if beside is not None:
        images = torch.cat([images, beside], dim=1)
    if images.shape[-1] == size:
        return images
    return F.interpolate(
        images,
        (size, size),
        mode="bilinear",
        align_corners=False,
        antialias=images.shape[-1] > size,
    )
