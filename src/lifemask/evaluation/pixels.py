"""Photos as arrays for the metrics."""

import numpy as np
from jaxtyping import Float, UInt8

from lifemask.io.colour import image_from_pixels


def linear_from_pixels(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Return an sRGB photo in linear RGB, 0 to 1."""
    return image_from_pixels(pixels).permute(1, 2, 0).numpy()
