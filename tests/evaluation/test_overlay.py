"""Known differences between render and photo give known decibels and residuals."""

import numpy as np
import pytest
import torch

from lifemask.evaluation.metrics.overlay import composite_over_skin, psnr
from lifemask.evaluation.metrics.plausibility import unexplained_log_albedo
from lifemask.io.colour import image_from_pixels


def photo_and_skin() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(60, 180, (32, 32, 3), dtype=np.uint8)
    skin = np.zeros((32, 32), bool)
    skin[6:28, 8:26] = True
    return pixels, skin


def linear(pixels: np.ndarray) -> np.ndarray:
    return image_from_pixels(pixels).permute(1, 2, 0).numpy()


def test_a_perfect_render_has_no_error_and_an_offset_has_its_decibels() -> None:
    pixels, skin = photo_and_skin()
    everywhere = np.ones_like(skin)
    composite = composite_over_skin(linear(pixels), everywhere, pixels, skin)
    assert psnr(composite, pixels, skin) > 100
    brighter = composite_over_skin(linear(pixels + np.uint8(10)), everywhere, pixels, skin)
    assert psnr(brighter, pixels, skin) == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)


def test_only_skin_is_replaced_and_empty_skin_takes_the_mean_colour() -> None:
    pixels, skin = photo_and_skin()
    rendered = skin.copy()
    rendered[:16] = False
    composite = composite_over_skin(np.zeros(pixels.shape), rendered, pixels, skin)
    np.testing.assert_allclose(composite[~skin], pixels[~skin] / 255)
    np.testing.assert_allclose(composite[skin & rendered], 0)
    empty = composite[skin & ~rendered]
    np.testing.assert_allclose(empty, np.broadcast_to(pixels[skin].mean(0) / 255, empty.shape))


def smooth_modes(count: int, size: int) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    fields = [
        np.sin((k + 1) * x * 2 + c) * np.cos((k + 1) * y * 2)
        for k in range(count)
        for c in range(3)
    ]
    return np.stack(fields).reshape(count, 3, size, size).transpose(0, 2, 3, 1)


def test_an_albedo_of_the_basis_is_explained_whatever_its_coefficients() -> None:
    modes, mean = smooth_modes(4, 48), np.full((48, 48, 3), -1.0)
    skin = np.ones((48, 48), bool)
    albedo = np.exp(mean + np.tensordot([1.5, -0.7, 0.2, 0.9], modes, 1))
    assert unexplained_log_albedo(albedo, mean, modes, skin, sigma_pixels=3.0) < 1e-6


def test_what_the_basis_lacks_stays_and_fine_structure_does_not() -> None:
    modes, mean = smooth_modes(2, 64), np.full((64, 64, 3), -1.0)
    skin = np.ones((64, 64), bool)
    y, x = np.mgrid[:64, :64]
    coarse = 0.2 * np.sign(np.sin(2 * np.pi * x / 64))[..., None] * np.array([1.0, -1.0, 0.5])
    fine = 0.2 * ((x + y) % 2 * 2 - 1)[..., None] * np.ones(3)
    with_coarse = unexplained_log_albedo(np.exp(mean + coarse), mean, modes, skin, sigma_pixels=3.0)
    with_fine = unexplained_log_albedo(np.exp(mean + fine), mean, modes, skin, sigma_pixels=3.0)
    assert with_coarse > 0.05
    assert with_fine < 0.005


def test_lamp_light_left_in_the_albedo_is_not_explained() -> None:
    torch.manual_seed(0)
    modes, mean = smooth_modes(2, 48), np.full((48, 48, 3), -1.0)
    skin = np.ones((48, 48), bool)
    x = np.linspace(0.2, 1, 48)[None, :, None]
    lit = np.exp(mean + np.log(x) * np.array([1.0, 0.2, -0.9]))
    assert unexplained_log_albedo(lit, mean, modes, skin, sigma_pixels=3.0) > 0.1
