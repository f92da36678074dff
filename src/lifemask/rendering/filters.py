"""Blurs, resizes and fills images that are known only in part."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gaussian_blur(image: Float[Tensor, "C H W"], sigma: float) -> Float[Tensor, "C H W"]:
    """Return the image blurred with a Gaussian of `sigma` pixels; borders are repeated."""
    if sigma < 0.2:
        return image
    if sigma > 4:
        # A wide blur of a reduced image gives about the same and is much faster.
        height, width = image.shape[-2:]
        even = F.pad(image[None], (0, width % 2, 0, height % 2), mode="replicate")
        small = gaussian_blur(F.avg_pool2d(even, 2)[0], sigma / 2)
        large = F.interpolate(small[None], scale_factor=2, mode="bilinear", align_corners=False)
        return large[0, :, :height, :width]
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).tolist()
    # Shifted sums are several times faster than a convolution of few channels.
    for axis, margins in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        length = image.shape[axis]
        padded = F.pad(image[None], margins, mode="replicate")[0]
        image = torch.zeros_like(image)
        for shift, share in enumerate(kernel):
            image.add_(padded.narrow(axis, shift, length), alpha=share)
    return image


def blur_weighted(
    image: Float[Tensor, "C H W"], weight: Float[Tensor, "H W"], sigma: float
) -> Float[Tensor, "C H W"]:
    """Return the blur of known pixels only; zero where no known pixel is near.

    Args:
        image: any values.
        weight: 0 (unknown) to 1.
        sigma: of the Gaussian, pixels.
    """
    total = gaussian_blur(weight[None], sigma)
    return gaussian_blur(image * weight, sigma) / total.clamp(min=1e-3)


def eroded(image: Float[Tensor, "H W"], radius: float) -> Float[Tensor, "H W"]:
    """Return the smallest value within a square of `radius` pixels around each pixel."""
    reach = max(0, round(radius))
    window = 2 * reach + 1
    return -F.max_pool2d(-image[None, None], window, stride=1, padding=reach)[0, 0]


def fill_unknown(
    weighted: Float[Tensor, "C H W"], weight: Float[Tensor, "H W"]
) -> Float[Tensor, "C H W"]:
    """Extend known values smoothly over the whole image (push-pull).

    Args:
        weighted: values times weight.
        weight: 0 (unknown) to 1.

    Gortler et al., "The Lumigraph", 1996, section 3.4.
    """
    if min(weight.shape) <= 2:
        mean = weighted.sum((-2, -1)) / weight.sum().clamp(min=1e-6)
        return mean[:, None, None].expand_as(weighted)
    pooled = F.avg_pool2d(torch.cat([weighted, weight[None]])[None], 2, ceil_mode=True)[0] * 4
    scale = pooled[-1].clamp(min=1)
    coarse = fill_unknown(pooled[:-1] / scale, pooled[-1].clamp(max=1))
    up = F.interpolate(coarse[None], weight.shape, mode="bilinear", align_corners=False)[0]
    return weighted + (1 - weight) * up


def resized(image: Float[Tensor, "C H W"], size: int) -> Float[Tensor, "C size size"]:
    """Return a square image at another size: averaged if smaller, smooth if larger."""
    if image.shape[-1] == size:
        return image
    smaller = size < image.shape[-1]
    # With antialiasing PyTorch processes one axis after the other: twice as fast, also if larger.
    return F.interpolate(
        image[None],
        (size, size),
        mode="bilinear" if smaller else "bicubic",
        antialias=True,
        align_corners=False,
    )[0]
