"""Compressed pictures of hair and cloth: luminance and opacity."""

import io

import numpy as np
from face_model.sources import Sources
from numpy.typing import NDArray
from PIL import Image

LUMINANCE_LIMIT = 2.5
"""Luminance, relative to its mean, that is stored as 255."""
_CONTRAST = 0.38


def read_picture(sources: Sources, name: str, size: int) -> NDArray[np.float64]:
    """Return RGBA (size, size, 4) in [0, 1], sRGB."""
    image = Image.open(io.BytesIO(sources.makehuman(name))).convert("RGBA")
    pixels = np.asarray(image, float) / 255
    # Colours are averaged premultiplied: transparent pixels have no colour.
    pixels[..., :3] *= pixels[..., 3:]
    factor = pixels.shape[0] // size
    pixels = pixels.reshape(size, factor, size, factor, 4).mean((1, 3))
    pixels[..., :3] /= np.maximum(pixels[..., 3:], 1e-4)
    return pixels


def luminance(pixels: NDArray[np.float64], *, steady: float = 0.0) -> NDArray[np.float64]:
    """Return linear luminance relative to its mean, with weaker painted highlights and dark tips.

    Args:
        pixels: RGBA in [0, 1], sRGB.
        steady: share of the slow changes to remove, 0 to 1.
    """
    alpha = pixels[..., 3]
    weight = alpha * (alpha > 0.5)
    log = np.log(pixels[..., :3] ** 2.2 @ [0.3, 0.6, 0.1] + 0.003)
    log -= np.average(log, weights=weight)
    if steady > 0:
        log -= steady * _blurred(log, weight, len(log) // 12)
    log *= min(1.0, _CONTRAST / np.sqrt(np.average(log**2, weights=weight)))
    value = np.exp(np.clip(log, -1.2, 0.9))
    value /= np.average(value, weights=weight)
    return value * alpha + np.average(value, weights=weight) * (1 - alpha)


def _blurred(
    values: NDArray[np.float64], weight: NDArray[np.float64], radius: int
) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    share = gaussian_filter(weight, radius) + 1e-6
    return gaussian_filter(values * weight, radius) / share


def jpeg(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the bytes of a grey JPEG of values in [0, 1]."""
    return _encoded(values, "JPEG", quality=82)


def png(values: NDArray[np.float64], *, levels: int = 32) -> NDArray[np.uint8]:
    """Return the bytes of a grey PNG of values in [0, 1], rounded to `levels` values."""
    return _encoded(np.rint(values * (levels - 1)) / (levels - 1), "PNG", optimize=True)


def _encoded(values: NDArray[np.float64], kind: str, **options: object) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, kind, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)
