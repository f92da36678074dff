"""Similarity of a render and its photo by networks: LPIPS over skin, and identity embeddings."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lifemask.evaluation.metrics.overlay import composite_over_skin
from lifemask.perception.identity import template_region
from lifemask.perception.lpips import LPIPS, load_lpips
from lifemask.perception.regions import crop_photo
from lifemask.perception.sface import CHIP_SIZE, CHIP_TEMPLATE, SFaceNetwork, load_sface

_LPIPS_SIZE = 224


def skin_lpips(
    composite: Float[np.ndarray, "H W 3"],
    pixels: UInt8[np.ndarray, "H W 3"],
    skin: Bool[np.ndarray, "H W"],
) -> float | None:
    """Return LPIPS over skin, on the square around the skin at 224 pixels; None without weights.

    Args:
        composite: sRGB, 0 to 1.
        pixels: the photo, sRGB.
        skin: the pixels to compare; not empty.
    """
    network = _lpips()
    if network is None:
        return None
    rows, columns = np.flatnonzero(skin.any(1)), np.flatnonzero(skin.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    top = (rows[0] + rows[-1] + 1 - side) // 2
    left = (columns[0] + columns[-1] + 1 - side) // 2
    images = [
        _square(array, left, top, side)
        for array in (composite, pixels / 255, skin[..., None].astype(np.float64))
    ]
    with torch.inference_mode():
        return float(network(images[0], images[1], weight=images[2]))


def identity_similarity(
    render: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    pixels: UInt8[np.ndarray, "H W 3"],
    landmarks68: Float[np.ndarray, "68 2"],
) -> float | None:
    """Return the cosine of SFace's embeddings of photo and render; None without weights.

    Args:
        render: linear RGB; its mean colour fills the rest of the image.
        mask: the pixels of the render; if empty, the result is None.
        pixels: the photo, sRGB.
        landmarks68: iBUG points in the photo's pixels, which align both images.
    """
    network = _sface()
    if network is None or not mask.any():
        return None
    shown = composite_over_skin(render, mask, pixels, np.ones_like(mask))
    shown[~mask] = shown[mask].mean(0)
    eyes = [landmarks68[36:42].mean(0), landmarks68[42:48].mean(0)]
    five = np.stack([*eyes, landmarks68[30], landmarks68[48], landmarks68[54]])
    region = template_region(torch.from_numpy(five.astype(np.float32)), CHIP_TEMPLATE)[None]
    with torch.inference_mode():
        chips = [
            crop_photo(image, region, CHIP_SIZE)
            for image in (pixels, np.round(255 * shown).astype(np.uint8))
        ]
        embeddings = network(torch.cat(chips))
    return float(torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0))


def _square(array: Float[np.ndarray, "H W C"], left: int, top: int, side: int) -> Tensor:
    """Return a square of an image, zero outside, resized to the input size of LPIPS."""
    height, width = array.shape[:2]
    square = np.zeros((side, side, array.shape[2]), np.float32)
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = array[y0:y1, x0:x1]
    image = torch.from_numpy(square).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(
        image, size=(_LPIPS_SIZE, _LPIPS_SIZE), mode="bilinear", antialias=True
    )


@cache
def _lpips() -> LPIPS | None:
    try:
        return load_lpips()
    except FileNotFoundError:
        return None


@cache
def _sface() -> SFaceNetwork | None:
    try:
        return load_sface()
    except FileNotFoundError:
        return None
