"""Difference of predicted albedo from photometric stereo, and its change with the light."""

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.metrics.relighting import relative_error


def albedo_error(
    predicted: Float[np.ndarray, "H W"],
    true: Float[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the median relative error over the mask in percent, after one global scale.

    Args:
        predicted: grey albedo in any unit; zero means no prediction.
        true: grey albedo in the photos' grey values.
        mask: the pixels to measure.
    """
    return relative_error(predicted, true, mask)


def albedo_variation(
    under_lights: Float[np.ndarray, "L H W"], mask: Bool[np.ndarray, "H W"]
) -> float:
    """Return the median over the mask of the standard deviation over lights / mean, percent.

    Each map is first divided by its own median over the mask. A constant albedo has 0, so
    the figure is meaningful only together with the error.
    """
    values = under_lights[:, mask]
    values = values / np.maximum(np.median(values, axis=1, keepdims=True), 1e-9)
    return 100 * float(np.median(values.std(0) / np.maximum(values.mean(0), 1e-9)))
