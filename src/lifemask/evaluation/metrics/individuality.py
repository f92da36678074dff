"""Whether predicted normals deviate from those of the average person like the true normals."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import convolve1d

from lifemask.evaluation.metrics.normal_error import mean_of_others


def masked_blur(
    values: Float[np.ndarray, "H W C"], mask: Bool[np.ndarray, "H W"], *, sigma: float
) -> Float[np.ndarray, "H W C"]:
    """Return Gaussian means over the masked pixels around each pixel.

    Args:
        values: the map to blur; pixels outside the mask have no influence.
        mask: the pixels that count.
        sigma: pixels; the kernel ends at three sigma.
    """
    radius = max(1, round(3 * sigma))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / 2 / sigma**2)
    kernel /= kernel.sum()
    weights = mask.astype(np.float64)[..., None]
    stacked = np.concatenate([values * weights, weights], axis=-1)
    for axis in (0, 1):
        stacked = convolve1d(stacked, kernel, axis=axis, mode="constant")
    return stacked[..., :-1] / np.maximum(stacked[..., -1:], 1e-6)


def individuality(
    predicted: Float[np.ndarray, "N H W 3"],
    true: Float[np.ndarray, "N H W 3"],
    skin: Bool[np.ndarray, "N H W"],
    *,
    sigma: float = 5.0,
) -> dict[Literal["low", "high"], Float[np.ndarray, "N N"]]:
    """Return the correlations of each person's predicted deviation and each person's true one.

    A deviation is the normals minus the mean normals of the other people, predicted or true, each
    minus its own mean over the pixels. Entry [i, j] is the correlation of person i's prediction
    with person j's truth over pixels and components. The diagonal is the score; where it is the
    row's maximum, the right person fits best.

    Args:
        predicted: unit normals, zero where there is no prediction.
        true: unit normals.
        skin: pixels with reliable truth.
        sigma: pixels; "low" is the masked Gaussian mean, "high" the rest.
    """
    count = len(predicted)
    true_mean, trusted = mean_of_others(true, skin)
    answered = skin & (np.linalg.norm(predicted, axis=-1) > 0.5)
    predicted_mean, _ = mean_of_others(predicted, answered)
    masks = answered & trusted
    deviations, truths = predicted - predicted_mean, true - true_mean
    low = [masked_blur(d, m, sigma=sigma) for d, m in zip(deviations, masks, strict=True)]
    low_truth = [masked_blur(d, m, sigma=sigma) for d, m in zip(truths, masks, strict=True)]
    result: dict[Literal["low", "high"], Float[np.ndarray, "N N"]] = {
        "low": np.zeros((count, count)),
        "high": np.zeros((count, count)),
    }
    for i in range(count):
        for j in range(count):
            both = masks[i] & masks[j]
            result["low"][i, j] = correlation(low[i][both], low_truth[j][both])
            result["high"][i, j] = correlation(
                (deviations[i] - low[i])[both], (truths[j] - low_truth[j])[both]
            )
    return result


def correlation(a: Float[np.ndarray, "P 3"], b: Float[np.ndarray, "P 3"]) -> float:
    """Return the correlation of all components; 0 if one side does not vary or is empty."""
    if not len(a):
        return 0.0
    a, b = a - a.mean(0), b - b.mean(0)
    energy = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / energy) if energy > 1e-12 else 0.0
