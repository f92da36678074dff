"""Error of a predicted depth image in percent of the true range, after scale and offset are found.

Sela, Richardson and Kimmel, "Unrestricted facial geometry reconstruction using image-to-image
translation" (ICCV 2017), section 6: the scale and the place of a face along the line of sight cannot
be known from one photo, so RANSAC finds both before errors are measured.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_ROUNDS = 1000
"""Pairs of pixels that are tried."""

_SCORED = 2000
"""Pixels that judge each of them."""

_NEAR = 0.02
"""An inlier lies at most so far from the true depth, as a part of its range."""


@dataclass(frozen=True)
class DepthError:
    """Absolute error over all valid pixels, in percent of the range of the true depth."""

    mean: float
    """Its mean."""
    std: float
    """Its standard deviation."""
    median: float
    """Its median."""
    percentile90: float
    """Nine of ten pixels have a smaller error."""


def depth_error(
    predicted: Float[np.ndarray, "H W"], true: Float[np.ndarray, "H W"], *, seed: int = 0
) -> DepthError:
    """Return the error of a depth image; its scale and offset do not count.

    Args:
        predicted: depth along the optical axis in any unit; 0 beside the face.
        true: the same in metres. A pixel is valid where both are above 0; the range of the true depth
            is taken over these pixels.
        seed: of the pairs of pixels; the same images and seed give the same error.

    Raises:
        ValueError: fewer than two valid pixels, or a depth without range.
    """
    valid = (predicted > 0) & (true > 0)
    given, wanted = predicted[valid].astype(np.float64), true[valid].astype(np.float64)
    if len(given) < 2 or np.ptp(wanted) == 0 or np.ptp(given) == 0:
        raise ValueError(
            f"Cannot compare depths over {len(given)} common pixels: at least two with different "
            "depths are needed in both images."
        )
    extent = float(np.ptp(wanted))
    scale, offset = _scale_and_offset(given, wanted, _NEAR * extent, np.random.default_rng(seed))
    percent = 100 * np.abs(scale * given + offset - wanted) / extent
    return DepthError(
        float(percent.mean()),
        float(percent.std()),
        float(np.median(percent)),
        float(np.percentile(percent, 90)),
    )


def _scale_and_offset(
    given: Float[np.ndarray, "N"],
    wanted: Float[np.ndarray, "N"],
    near: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return scale and offset by RANSAC (Fischler and Bolles, 1981), at last from all inliers."""
    first, second = generator.integers(len(given), size=(2, _ROUNDS))
    apart = given[first] - given[second]
    usable = apart != 0
    scales = (wanted[first] - wanted[second])[usable] / apart[usable]
    offsets = wanted[first][usable] - scales * given[first][usable]
    # Where no pair is usable, or all turn the face inside out, all pixels are inliers.
    kept = scales > 0
    inliers = np.ones(len(given), bool)
    if kept.any():
        scales, offsets = scales[kept], offsets[kept]
        judges = generator.choice(len(given), min(_SCORED, len(given)), replace=False)
        errors = np.abs(scales[:, None] * given[judges] + offsets[:, None] - wanted[judges])
        best = int(np.argmax((errors < near).sum(1)))
        inliers = np.abs(scales[best] * given + offsets[best] - wanted) < near
    x, y = given[inliers], wanted[inliers]
    spread = float(((x - x.mean()) ** 2).sum())
    scale = float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 1.0
    return scale, float(y.mean() - scale * x.mean())
