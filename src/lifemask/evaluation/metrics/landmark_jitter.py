"""Movement of landmarks when the photo changes without a movement of the face."""

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from lifemask.io.colour import image_from_pixels, pixels_from_image


def perturb(
    pixels: UInt8[np.ndarray, "H W 3"], generator: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "2 3"]]:
    """Return the shifted, scaled, brightened and compressed photo, and the map of points back.

    The shift is within 2 pixels, the scale within 1 % about the centre, the gain within 3 % of
    linear light, and the JPEG quality 80 to 95; all uniform.

    Returns:
        The photo, of the same size, and the affine map from its pixels to the original's.
    """
    height, width = pixels.shape[:2]
    scale = 1 + generator.uniform(-0.01, 0.01)
    shift = generator.uniform(-2, 2, 2)
    gain = 1 + generator.uniform(-0.03, 0.03)
    quality = int(generator.integers(80, 96))
    centre = np.array([width, height]) / 2
    back = np.column_stack([np.eye(2) / scale, centre - (centre + shift) / scale])
    moved = Image.fromarray(pixels).transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(back.ravel()),
        resample=Image.Resampling.BICUBIC,
    )
    brightened = pixels_from_image(image_from_pixels(np.array(moved)) * gain)
    buffer = io.BytesIO()
    Image.fromarray(brightened).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer).convert("RGB")), back


def map_back(
    points: Float[np.ndarray, "N 2"], back: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, "N 2"]:
    """Return points of the perturbed photo in the original's pixels."""
    return points @ back[:, :2].T + back[:, 2]


def jitter_percent(landmarks: Float[np.ndarray, "K N 2"]) -> float:
    """Return the RMS distance of points from their mean over K versions, in percent of face size.

    Face size is the square root of the area of the box of the mean points.
    """
    mean = landmarks.mean(0)
    size = np.sqrt(np.prod(mean.max(0) - mean.min(0)))
    squared = ((landmarks - mean) ** 2).sum(-1).mean()
    return float(100 * np.sqrt(squared) / size)
