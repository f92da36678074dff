"""Losses of predicted fine normals and log albedo of skin, for drawn faces with known relief."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FINE_PIXELS = 11
"""Side of the box whose mean is taken away from what is compared as fine."""


def normal_distance(
    normals: Float[Tensor, "B 3 H W"],
    true: Float[Tensor, "B 3 H W"],
    skin: Float[Tensor, "B 1 H W"],
) -> Float[Tensor, "B"]:
    """Return the mean distance of unit normals over skin."""
    distance = ((normals - true).square() + 1e-5).sum(1, keepdim=True).sqrt()
    return _mean(distance, skin)


def fine_normal_distance(
    normals: Float[Tensor, "B 3 H W"],
    true: Float[Tensor, "B 3 H W"],
    skin: Float[Tensor, "B 1 H W"],
) -> Float[Tensor, "B"]:
    """Return the mean distance of the fine parts of normals over skin."""
    error = fine_part(normals - true, skin)
    return _mean((error.square() + 1e-6).sum(1, keepdim=True).sqrt(), skin)


def log_albedo_distance(
    predicted: Float[Tensor, "B 1 H W"],
    true: Float[Tensor, "B 1 H W"],
    skin: Float[Tensor, "B 1 H W"],
) -> Float[Tensor, "B"]:
    """Return the mean distance of log albedo over skin after the best gain, its fine part twice more."""
    error = predicted - true
    level = _mean(error, skin)[:, None, None, None]
    return _mean((error - level).abs(), skin) + 2 * _mean(fine_part(error, skin).abs(), skin)


def fine_part(
    image: Float[Tensor, "B C H W"], weight: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, "B C H W"]:
    """Return an image minus its mean around each pixel, over pixels of weight; 0 without weight."""

    def pooled(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, FINE_PIXELS, 1, FINE_PIXELS // 2)

    return (image - pooled(image * weight) / pooled(weight).clamp(min=0.05)) * weight


def _mean(image: Float[Tensor, "B 1 H W"], weight: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B"]:
    return (image * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
