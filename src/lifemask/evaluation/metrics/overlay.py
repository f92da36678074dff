"""Difference between the render and the photo over skin."""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from lifemask.io.colour import srgb_from_linear


def composite_over_skin(
    render: Float[np.ndarray, "H W 3"],
    rendered: Bool[np.ndarray, "H W"],
    photo: UInt8[np.ndarray, "H W 3"],
    skin: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W 3"]:
    """Return the photo with its skin replaced by the render, sRGB in [0, 1].

    Skin that the program leaves empty gets the mean colour of the photo's skin, so that leaving out
    difficult pixels brings no advantage.

    Args:
        render: linear RGB.
        rendered: the pixels that the program renders.
        photo: sRGB.
        skin: the pixels to replace.
    """
    target = photo.astype(np.float64) / 255
    result = target.copy()
    if skin.any():
        result[skin] = target[skin].mean(0)
    both = skin & rendered
    linear = torch.from_numpy(np.clip(render[both].astype(np.float64), 0, 1))
    result[both] = srgb_from_linear(linear).numpy()
    return result


def psnr(
    composite: Float[np.ndarray, "H W 3"],
    photo: UInt8[np.ndarray, "H W 3"],
    skin: Bool[np.ndarray, "H W"],
) -> float:
    """Return the peak signal-to-noise ratio over skin in decibels (peak 1, sRGB values)."""
    difference = composite[skin] - photo[skin] / 255
    return float(-10 * np.log10(max(np.mean(difference**2), 1e-12)))
