"""Cells of a table for errors by absolute yaw: the three bins, and their mean."""

import numpy as np
from jaxtyping import Float, Int

from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width
from lifemask.evaluation.metrics.landmark_error import mean_by_bin
from lifemask.evaluation.tables import Cell

BIN_NAMES = ("0–30", "30–60", "over 60")
"""Names of the bins of `yaw_bin`, degrees."""


def yaw_cells(
    errors: Float[np.ndarray, "N"], bins: Int[np.ndarray, "N"], *, mean: str, seed: int
) -> dict[str, Cell]:
    """Return the mean error of each bin that is not empty, and the mean of the three bins.

    Args:
        errors: one for each photo.
        bins: from `yaw_bin`.
        mean: name of the last cell.
        seed: of the bootstrap samples.
    """
    means, balanced = mean_by_bin(errors, bins)
    cells: dict[str, Cell] = {}
    for b, name in enumerate(BIN_NAMES):
        inside = errors[bins == b]
        if len(inside):
            width = bootstrap_half_width(
                lambda drawn, inside=inside: float(inside[drawn].mean()), len(inside), seed=seed
            )
            cells[name] = Cell(float(means[b]), width)
    width = bootstrap_half_width(
        lambda drawn: mean_by_bin(errors[drawn], bins[drawn])[1],
        len(errors),
        seed=seed,
        strata=bins,
    )
    cells[mean] = Cell(balanced, width)
    return cells
