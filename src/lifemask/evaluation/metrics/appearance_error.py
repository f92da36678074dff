"""Errors of albedo and light, which share one free scale, and of photos predicted in new light."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt

from lifemask.io.colour import srgb_from_linear


def best_scale(predicted: Float[np.ndarray, "*N"], true: Float[np.ndarray, "*N"]) -> float:
    """Return k with the least squared error of k predicted - true; 0 if all predictions are 0."""
    predicted = predicted.astype(np.float64)
    energy = float((predicted**2).sum())
    return float((predicted * true).sum()) / energy if energy > 0 else 0.0


def nearest_filled(
    values: Float[np.ndarray, "H W C"], given: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W C"]:
    """Return a map with the value of the nearest given pixel in each empty pixel.

    Without this, the black pixels beside a mesh that ends one pixel too early would dominate the
    error.
    """
    if not given.any():
        return values
    nearest: Any = distance_transform_edt(~given, return_distances=False, return_indices=True)
    return values[nearest[0], nearest[1]]


def relative_rms(predicted: Float[np.ndarray, "*N"], true: Float[np.ndarray, "*N"]) -> float:
    """Return the RMS difference over the RMS of the truth, in percent."""
    difference = predicted.astype(np.float64) - true
    return 100 * float(np.sqrt(np.mean(difference**2) / np.mean(true.astype(np.float64) ** 2)))


def chroma_angle(predicted: Float[np.ndarray, "N 3"], true: Float[np.ndarray, "N 3"]) -> float:
    """Return the mean angle between RGB vectors, degrees; a missing colour (black) counts 90."""
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(true, axis=1)
    cosine = (predicted.astype(np.float64) * true).sum(1) / np.maximum(lengths, 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def shading_energy(
    predicted: Float[np.ndarray, "H W 3"],
    true: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the spread of the predicted shading relative to that of the true one.

    Near 0, the light has become constant and its shadows lie in the albedo. It is the standard deviation
    of the mean of the colours over the mask, divided by the truth's; NaN where the truth has none.

    Args:
        predicted: linear RGB shading.
        true: the same.
        mask: visible skin.
    """
    spread, wanted = (float(s[mask].astype(np.float64).mean(-1).std()) for s in (predicted, true))
    return spread / wanted if wanted > 0 else float("nan")


def relit_psnr(
    predicted: Float[np.ndarray, "H W 3"],
    true: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the PSNR in decibels over the mask, sRGB values, after one scale in linear light.

    Args:
        predicted: linear RGB; black where there is no prediction.
        true: linear RGB.
        mask: the pixels to measure.
    """
    p, t = predicted[mask].astype(np.float64), true[mask].astype(np.float64)
    scaled = torch.from_numpy((best_scale(p, t) * p).clip(0, 1))
    wanted = srgb_from_linear(torch.from_numpy(t.clip(0, 1)))
    squared = (srgb_from_linear(scaled) - wanted).square().mean()
    return float(-10 * np.log10(max(float(squared), 1e-12)))
