"""Whether predicted normals have the fine relief of the true ones, and how high false relief is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.linalg import cg

from lifemask.evaluation.metrics.individuality import correlation, masked_blur
from lifemask.evaluation.metrics.normal_error import unit


@dataclass(frozen=True)
class ReliefFigures:
    """How a predicted relief compares with the true one."""

    correlation: float
    """Over pixels and components; 0 if one of them is flat."""
    amplitude: float
    """RMS of the predicted relief over that of the true one; NaN if that is flat."""


def relief(
    fine: Float[np.ndarray, "H W 3"],
    smooth: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    *,
    sigma: float,
) -> Float[np.ndarray, "H W 3"]:
    """Return the high-passed difference of two normal maps, zero outside the mask.

    The high pass is the difference minus its Gaussian mean over the masked pixels. A pixel without
    one of the normals is smooth.

    Args:
        fine: normals of any length; shorter than one half means none.
        smooth: the same of the surface without relief.
        mask: the pixels to compare.
        sigma: of the Gaussian, pixels.
    """
    given = np.minimum(*(np.linalg.norm(n, axis=-1) for n in (fine, smooth))) > 0.5
    difference = np.where((given & mask)[..., None], unit(fine) - unit(smooth), 0.0)
    return (difference - masked_blur(difference, mask, sigma=sigma)) * mask[..., None]


def compare_relief(
    predicted: Float[np.ndarray, "H W 3"],
    true: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
) -> ReliefFigures:
    """Return correlation and amplitude of a predicted relief (see `relief`)."""
    p, t = predicted[mask], true[mask]
    energy = float((t**2).sum())
    amplitude = float(np.sqrt((p**2).sum() / energy)) if energy > 1e-12 else float("nan")
    return ReliefFigures(correlation(p, t), amplitude)


def relief_heights(
    relief: Float[np.ndarray, "H W 3"],
    smooth: Float[np.ndarray, "H W 3"],
    millimetres_per_pixel: Float[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """Return the heights along the smooth normals whose slopes are nearest to a relief, millimetres.

    Least squares over pairs of neighbours in the mask; each connected part has the mean 0.

    Args:
        relief: deviation of the normals (+x image right, +y up, +z to the viewer).
        smooth: unit normals that face the viewer, in the same axes.
        millimetres_per_pixel: width of a pixel at the surface.
        mask: the pixels of the surface.
    """
    # A height h turns the normal by minus its gradient, so its change along a tangent is -relief . t.
    slopes = -smooth[..., :2] / np.maximum(smooth[..., 2:], 0.1)
    right = -(relief[..., 0] + relief[..., 2] * slopes[..., 0]) * millimetres_per_pixel
    down = (relief[..., 1] + relief[..., 2] * slopes[..., 1]) * millimetres_per_pixel
    index = np.cumsum(mask).reshape(mask.shape) - 1
    count = int(mask.sum())
    firsts: list[np.ndarray] = []
    seconds: list[np.ndarray] = []
    rises: list[np.ndarray] = []
    for change, here, there in (
        (right, np.s_[:, :-1], np.s_[:, 1:]),
        (down, np.s_[:-1], np.s_[1:]),
    ):
        pair = mask[here] & mask[there]
        firsts.append(index[here][pair])
        seconds.append(index[there][pair])
        rises.append((change[here][pair] + change[there][pair]) / 2)
    first, second, rise = (np.concatenate(parts) for parts in (firsts, seconds, rises))
    pairs = np.arange(len(first))
    difference = coo_array(
        (
            np.repeat([-1.0, 1.0], len(first)),
            (np.tile(pairs, 2), np.concatenate([first, second])),
        ),
        shape=(len(first), count),
    ).tocsr()
    # From zero, conjugate gradients never leave the space in which each part has the mean 0.
    solved = cg(difference.T @ difference, difference.T @ rise, rtol=1e-4, maxiter=3000)[0]
    heights = np.zeros(mask.shape)
    heights[mask] = solved
    return heights
