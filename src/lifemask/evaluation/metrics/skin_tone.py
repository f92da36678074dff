"""How dark skin is: typology angles, and errors of albedo without a free scale."""

import numpy as np
from jaxtyping import Bool, Float

_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""Linear sRGB to XYZ under D65 (IEC 61966-2-1)."""
_DARKEST = 1e-3


def typology_angle(colour: Float[np.ndarray, "3"]) -> float:
    """Return the individual typology angle in degrees: 55 and more is very light, below -30 dark.

    ITA = arctan((L* - 50) / b*), of CIELAB under D65 (Chardon et al., "Skin colour typology and suntanning
    pathways", 1991).

    Args:
        colour: linear sRGB.
    """
    _, y, z = (_lab_curve(v) for v in _XYZ @ np.maximum(colour, 0) / _XYZ.sum(1))
    lightness, yellow = 116 * y - 16, 200 * (y - z)
    return float(np.degrees(np.arctan2(lightness - 50, max(yellow, 1e-6))))


def log_albedo_rms(
    predicted: Float[np.ndarray, "H W 3"],
    true: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
) -> float:
    """Return the RMS difference of natural logarithms over mask and colours, without a free scale.

    Args:
        predicted: linear RGB; values below 0.001 count as 0.001.
        true: the same.
        mask: the pixels to measure.
    """
    ratio = np.log(np.maximum(predicted[mask], _DARKEST)) - np.log(np.maximum(true[mask], _DARKEST))
    return float(np.sqrt(np.mean(ratio.astype(np.float64) ** 2)))


def _lab_curve(value: float) -> float:
    return value ** (1 / 3) if value > (6 / 29) ** 3 else value * (29 / 6) ** 2 / 3 + 4 / 29
