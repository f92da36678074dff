"""A chart of the mean head's face: a cylinder about a vertical axis, unrolled, in metres.

The first coordinate runs along the skin to the subject's left, the second one up. Distances on
forehead, temples and cheeks are right within a fifth; the sides of the nose are stretched.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.polygons import inside_polygon

Array = np.ndarray

STEP_METRES = 0.0002
"""Side of a cell of the chart's images."""

_LOW = np.array([-0.12, -0.13])
_SHAPE = (1024, 1200)
_AXIS_Z, _RADIUS = -0.06, 0.085


def chart_places(points: Float[Array, "*batch 3"]) -> Float[Array, "*batch 2"]:
    """Return the chart coordinates of points of the mean head (head axes), metres."""
    angle = np.arctan2(points[..., 0], points[..., 2] - _AXIS_Z)
    return np.stack([_RADIUS * angle, points[..., 1]], axis=-1)


def chart_landmarks(head: IctHead) -> Float[Array, "68 2"]:
    """Return the chart coordinates of ICT's iBUG points."""
    return chart_places(head.model.mean[head.landmarks])


@cache
def cell_places() -> Float[Array, "R C 2"]:
    """Return the chart coordinates of all cells; row 0 is the lowest."""
    rows, columns = np.indices(_SHAPE)
    return np.stack([columns, rows], axis=-1) * STEP_METRES + _LOW


def cells(places: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """Return (row, column) of places, not rounded."""
    return ((places - _LOW) / STEP_METRES)[..., ::-1]


def sample_chart(
    image: Float[Array, "R C"], places: Float[Array, "*batch 2"]
) -> Float[Array, "*batch"]:
    """Return an image of the chart at places, bilinear; 0 outside the chart."""
    where = np.moveaxis(cells(places), -1, 0)
    return map_coordinates(image, where, order=1, mode="constant")


def band_noise(
    generator: np.random.Generator,
    metres: float,
    *,
    angle_degrees: float | None = None,
) -> Float[Array, "R C"]:
    """Return noise of unit variance with wavelengths near a given one.

    Args:
        generator: source of randomness.
        metres: wavelength.
        angle_degrees: direction of the ridges from the horizontal, within some 20°; None: none.
    """
    spectrum = np.fft.rfft2(generator.normal(size=_SHAPE))
    fy, fx = (np.fft.fftfreq(_SHAPE[0])[:, None], np.fft.rfftfreq(_SHAPE[1])[None])
    ratio = np.hypot(fx, fy) * metres / STEP_METRES
    response = np.exp(-(((ratio - 1) / 0.35) ** 2))
    if angle_degrees is not None:
        across = np.arctan2(fy, fx) - np.radians(angle_degrees + 90)
        response = response * np.exp(-((np.sin(across) / 0.35) ** 2))
    noise = np.fft.irfft2(spectrum * response, _SHAPE)
    return noise / noise.std()


def spots(
    places: Float[Array, "N 2"], strengths: Float[Array, "N"], sigma_metres: float
) -> Float[Array, "R C"]:
    """Return the sum of Gaussian spots, each with its strength in the middle."""
    image = np.zeros(_SHAPE)
    row, column = np.round(cells(places)).astype(np.int64).T
    inside = (row >= 0) & (column >= 0) & (row < _SHAPE[0]) & (column < _SHAPE[1])
    np.add.at(image, (row[inside], column[inside]), strengths[inside])
    fy, fx = (np.fft.fftfreq(_SHAPE[0])[:, None], np.fft.rfftfreq(_SHAPE[1])[None])
    sigma = sigma_metres / STEP_METRES
    response = 2 * np.pi * sigma**2 * np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    return np.fft.irfft2(np.fft.rfft2(image) * response, _SHAPE)


def distance_to(curve: Float[Array, "N 2"], reach_metres: float) -> Float[Array, "R C"]:
    """Return the distance of each cell to a polyline, at most `reach_metres`."""
    steps = np.linspace(0, 1, 40)[:, None]
    samples = np.concatenate([a + steps * (b - a) for a, b in pairwise(curve)])
    window = window_around(samples, reach_metres)
    result = np.full(_SHAPE, reach_metres)
    found = KDTree(samples).query(cell_places()[window], distance_upper_bound=reach_metres)[0]
    result[window] = np.minimum(found, reach_metres)
    return result


def within(curve: Float[Array, "N 2"]) -> Bool[Array, "R C"]:
    """Return the cells inside a closed curve."""
    places = cell_places()
    return inside_polygon(places.reshape(-1, 2), curve).reshape(_SHAPE)


def window_around(samples: Float[Array, "N 2"], reach_metres: float) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box with all cells within reach of the samples."""
    where = cells(samples)
    reach = reach_metres / STEP_METRES + 1
    low = np.maximum(where.min(0) - reach, 0).astype(np.int64)
    high = np.minimum(where.max(0) + reach + 1, _SHAPE).astype(np.int64)
    return slice(low[0], max(low[0], high[0])), slice(low[1], max(low[1], high[1]))
