"""Folds of the skin along lines: creases with rims, and steps whose one side bulges."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree

from lifemask.evaluation.ict_faces.chart import STEP_METRES, cell_places, window_around

Array = np.ndarray

_RIM = 0.15
"""Height of the rims beside a crease, in units of its depth."""


@dataclass(frozen=True)
class Fold:
    """One line of the face, in the chart."""

    path: Float[Array, "N 2"]
    """Control points, metres; the line is a smooth curve through them."""
    depth_metres: float
    """Depth of the crease where it is deepest."""
    width_metres: float
    """Half width of the crease where its depth is 1/e."""
    bulge_metres: float = 0.0
    """How much the skin to the left of the path, seen along it, stands above the other side."""


def fold_heights(
    folds: list[Fold], shape: tuple[int, int], generator: np.random.Generator
) -> Float[Array, "R C"]:
    """Return the heights of folds in the chart, metres; each line wanders and varies in depth.

    Where creases meet, the deepest one counts; bulges add up.

    Args:
        folds: the lines.
        shape: rows and columns of the chart.
        generator: source of randomness.
    """
    creases, rims = np.zeros(shape), np.zeros(shape)
    for fold in folds:
        line = _wandering(fold.path, generator)
        depths = fold.depth_metres * _along(len(line), generator)
        reach = max(5.0 * fold.width_metres, 12.0 * fold.width_metres * (fold.bulge_metres > 0))
        window = window_around(line, reach)
        places = cell_places()[window]
        found: Any = KDTree(line).query(places, distance_upper_bound=reach)
        distance, index = found
        near = np.isfinite(distance)
        index = index[near]
        tangent = np.gradient(line, axis=0)[index]
        offset = places[near] - line[index]
        left = np.sign(tangent[:, 0] * offset[:, 1] - tangent[:, 1] * offset[:, 0])
        across = distance[near] / fold.width_metres
        depth = depths[index]
        crease, raised = np.zeros(near.shape), np.zeros(near.shape)
        crease[near] = -depth * (0.6 * np.exp(-(across**2)) + 0.4 * np.exp(-((across / 2.2) ** 2)))
        raised[near] = _RIM * depth * np.exp(-(((across - 2.6) / 1.2) ** 2))
        if fold.bulge_metres > 0:
            # The bulge falls steeply into the crease and slowly on its far side.
            share = depth / fold.depth_metres * fold.bulge_metres
            rise = (1 - np.exp(-((across / 1.3) ** 2))) * np.exp(-((across / 5.0) ** 2))
            raised[near] += np.where(left > 0, share * rise, 0)
        creases[window] = np.minimum(creases[window], crease)
        rims[window] += raised
    return creases + rims


def _wandering(path: Float[Array, "N 2"], generator: np.random.Generator) -> Float[Array, "M 2"]:
    """Return a dense curve through control points with small random deviations."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    count = max(8, int(length[-1] / STEP_METRES))
    curve = CubicSpline(length, path)(np.linspace(0, length[-1], count))
    for wavelength, size in ((0.012, 0.0006), (0.005, 0.00015)):
        sigma = wavelength / STEP_METRES / 4
        moves = gaussian_filter1d(generator.normal(size=(count, 2)), sigma, axis=0, mode="reflect")
        curve = curve + size * moves * np.sqrt(2 * np.sqrt(np.pi) * sigma)
    return curve


def _along(count: int, generator: np.random.Generator) -> Float[Array, "M"]:
    """Return the relative depth along a line: 0 at its ends, 1 where it is deepest."""
    t = np.linspace(0, 1, count)
    taper = np.clip(np.sin(np.pi * t ** generator.uniform(0.7, 1.4)), 0, None) ** 0.7
    sigma = 0.005 / STEP_METRES / 2
    noise = gaussian_filter1d(generator.normal(size=count), sigma, mode="reflect")
    varied = taper * np.clip(1 + 0.35 * noise * np.sqrt(2 * np.sqrt(np.pi) * sigma), 0.15, 1.6)
    return varied / max(varied.max(), 1e-9)
