"""Filters of partly known images use only known pixels."""

import torch

from lifemask.rendering.filters import blur_weighted, eroded, fill_unknown, gaussian_blur, resized


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_blur_keeps_constants_and_the_mean():
    constant = torch.full((2, 40, 50), 0.3)
    for sigma in (0.0, 1.0, 9.0):
        torch.testing.assert_close(gaussian_blur(constant, sigma), constant)
    image = torch.zeros(1, 101, 101)
    image[0, 50, 50] = 1
    assert abs(float(gaussian_blur(image, 5.0).sum()) - 1) < 1e-3


def test_a_blur_has_the_variance_it_names():
    image = torch.zeros(1, 81, 81)
    image[0, 40, 40] = 1
    offsets = torch.arange(81.0) - 40
    for sigma in (1.5, 3.0, 6.0):
        profile = gaussian_blur(image, sigma)[0].sum(0)
        assert abs(float((profile * offsets**2).sum()) ** 0.5 - sigma) < 0.1 * sigma


def test_a_weighted_blur_ignores_what_is_unknown():
    image = torch.full((1, 60, 60), 0.5)
    weight = torch.ones(60, 60)
    weight[:, 30:] = 0
    image[..., 30:] = 100.0
    blurred = blur_weighted(image, weight, 3.0)
    torch.testing.assert_close(blurred[..., :30], torch.full((1, 60, 30), 0.5))


def test_filling_keeps_what_is_known_and_carries_it_on():
    image = noise(3, 64, 64)
    weight = torch.zeros(64, 64)
    weight[:, :20] = 1
    filled = fill_unknown(image * weight, weight)
    torch.testing.assert_close(filled[..., :20], image[..., :20])
    known = image[..., :20]
    assert filled.min() >= known.min() - 1e-5
    assert filled.max() <= known.max() + 1e-5


def test_filling_a_constant_gives_the_constant():
    weight = (noise(33, 47) > 0.95).float()
    filled = fill_unknown(torch.full((1, 33, 47), 0.7) * weight, weight)
    torch.testing.assert_close(filled, torch.full((1, 33, 47), 0.7))


def test_erosion_matches_a_loop():
    image = noise(12, 14)
    result = eroded(image, 2.0)
    for row in range(12):
        for column in range(14):
            window = image[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            assert result[row, column] == window.min()


def test_resizing_keeps_the_mean():
    image = noise(3, 64, 64)
    assert abs(float(resized(image, 16).mean() - image.mean())) < 5e-3
    assert abs(float(resized(image, 128).mean() - image.mean())) < 5e-3
    assert resized(image, 64) is image
