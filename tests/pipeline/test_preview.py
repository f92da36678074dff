"""The preview shows the whole photo beside the renderings, for photos of any size."""

import numpy as np
import torch

from lifemask.io.colour import image_from_pixels
from lifemask.pipeline.preview import photo_square


def test_square_of_a_large_photo_is_its_mean_in_linear_light() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    square = photo_square(pixels, (0.0, 0.0, 640.0), 16)
    linear = image_from_pixels(pixels)
    blocks = linear.reshape(3, 16, 40, 16, 40).mean((2, 4))
    assert square.shape == (3, 16, 16)
    torch.testing.assert_close(square, blocks, atol=1e-4, rtol=0)


def test_the_outside_of_the_photo_is_grey() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    square = photo_square(black, (-64.0, 0.0, 128.0), 32)
    assert (square[:, 4:12, 2:14] > 0.5).all()
    assert (square[:, 4:12, 18:30] < 0.01).all()
