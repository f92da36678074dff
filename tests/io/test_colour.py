"""The sRGB curve has its known values, its inverse and its slope."""

import numpy as np
import pytest
import torch

from lifemask.io.colour import (
    image_from_pixels,
    linear_from_srgb,
    pixels_from_image,
    srgb_from_linear,
)


def test_curves_undo_each_other() -> None:
    values = torch.linspace(-0.1, 1.5, 1001, dtype=torch.float64)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(values)), values)


def test_half_of_srgb_is_a_fifth_of_the_light() -> None:
    """The worked value is ((0.5 + 0.055) / 1.055) ** 2.4 = 0.2140."""
    light = linear_from_srgb(torch.tensor([0.0, 0.04, 0.5, 1.0]))
    torch.testing.assert_close(light, torch.tensor([0.0, 0.04 / 12.92, 0.2140411, 1.0]))


@pytest.mark.parametrize("curve", [linear_from_srgb, srgb_from_linear])
def test_gradients_are_right_also_in_black(curve: object) -> None:
    values = torch.tensor([0.0, 1e-4, 0.02, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(curve, (values,))


def test_every_byte_survives_the_way_to_linear_light_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    pixels[..., 1] = pixels[::-1, :, 1]
    image = image_from_pixels(pixels)
    assert image.shape == (3, 16, 16)
    assert image.max() == 1
    np.testing.assert_array_equal(pixels_from_image(image), pixels)


def test_light_out_of_range_is_clamped() -> None:
    image = torch.tensor([-0.5, 2.0, 1.0]).view(3, 1, 1)
    assert pixels_from_image(image).tolist() == [[[0, 255, 255]]]
