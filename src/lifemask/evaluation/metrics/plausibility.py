"""The part of a predicted albedo that no combination of the albedo modes explains."""

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.metrics.individuality import masked_blur

DARKEST = 1e-3
"""Linear reflectance below which a logarithm is mostly noise."""


def unexplained_log_albedo(
    albedo: Float[np.ndarray, "H W 3"],
    mean_log: Float[np.ndarray, "H W 3"],
    basis_log: Float[np.ndarray, "A H W 3"],
    skin: Bool[np.ndarray, "H W"],
    *,
    sigma_pixels: float,
) -> float:
    """Return the RMS residual of log albedo after the best combination of all modes.

    Albedo, mean and modes are first blurred over the skin, so that finer structure (pores, moles,
    beard) has no influence.

    Args:
        albedo: linear reflectance on the photo's pixels.
        mean_log: the model's mean log albedo at the same pixels.
        basis_log: its modes at the same pixels.
        skin: the visible skin.
        sigma_pixels: sigma of the blur: 4 mm on the face.
    """
    observed = np.log(np.maximum(albedo.astype(np.float64), DARKEST)) - mean_log
    stacked = np.concatenate([observed[None], basis_log.astype(np.float64)])
    channels = np.moveaxis(stacked, 0, -1).reshape(*albedo.shape[:2], -1)
    blurred = masked_blur(channels, skin, sigma=sigma_pixels)[skin]
    columns = blurred.reshape(-1, len(stacked))
    target, modes = columns[:, 0], columns[:, 1:]
    weights = np.linalg.lstsq(modes, target, rcond=None)[0]
    return float(np.sqrt(np.mean((target - modes @ weights) ** 2)))
