"""Procedural colours of eyes, teeth, tongue, mouth and lashes in the head's atlas."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FINE = 2048
"""Texels along each side of the atlas with painted details."""

IRIS_LIGHTNESS = np.array([0.30, 0.55, 0.72])
"""Log change of the iris from brown towards light, per standard deviation."""
IRIS_HUE = np.array([-0.30, 0.02, 0.40])
"""Log change of the iris from amber towards blue, per standard deviation."""
EYE_CENTRE = np.array([0.946, 0.054])
"""Middle of the left eyeball's island in the atlas; the right island mirrors it."""
EYE_RADIUS = 0.049
"""Radius of that island."""

_IRIS_ANGLE = 30.9
_PUPIL_ANGLE = 10.5
_IRIS = np.array([0.120, 0.062, 0.030])
_SCLERA = np.array([0.66, 0.61, 0.565])
_PATCHES = {
    # Rows and columns of the fine atlas that are kept; they are on the left, the right mirrors them.
    "eye": (0, 224, 1824, 2048),
    "teeth": (1888, 2040, 1560, 2024),
}


@dataclass(frozen=True)
class Painting:
    """Painted parts in the fine atlas."""

    log_colour: NDArray[np.float64]
    """(FINE, FINE, 3) log of linear RGB; 0 where nothing is painted."""
    covered: NDArray[np.bool_]
    """(FINE, FINE) painted texels."""
    iris: NDArray[np.float64]
    """(FINE, FINE) strength of the iris modes, 0 to 1."""
    patches: dict[str, NDArray[np.generic]]
    """Details that are too fine for the coarse texture: `patch_NAME` (h, w, 3) float16 log colour,
    `patch_NAME_iris` (h, w) uint8 and `patch_NAME_box` (top, bottom, left, right) texels."""


def paint(masks: dict[str, NDArray[np.bool_]], uv: NDArray[np.float64]) -> Painting:
    """Return the painted parts for part masks (FINE, FINE) and texel coordinates (FINE, FINE, 2)."""
    colour = np.ones((FINE, FINE, 3))
    iris = np.zeros((FINE, FINE))
    covered = np.zeros((FINE, FINE), bool)
    for name, mask in masks.items():
        if name == "skin":
            continue
        at = uv[mask]
        covered |= mask
        if name.startswith("eyeball"):
            colour[mask], iris[mask] = _eye(at)
        elif name.startswith("teeth"):
            colour[mask] = _teeth(at, lower=name.endswith("lower"))
        elif name == "mouth_bag":
            # Little light reaches deep parts far from the lips.
            depth = 1 - np.linalg.norm(at - at.mean(0), axis=1) / 0.03
            colour[mask] = (
                np.array([0.20, 0.050, 0.042]) * (1 - 0.85 * np.clip(depth, 0, 1))[:, None]
            )
        elif name.startswith("socket"):
            colour[mask] = (0.43, 0.20, 0.17)
        elif name == "tongue":
            front = np.clip(0.8 - (at[:, 1] - 0.966) / 0.05, 0, 1)
            shade = 0.35 + 0.65 * front
            colour[mask] = np.array([0.36, 0.125, 0.105]) * shade[:, None]
        else:
            colour[mask] = (0.020, 0.016, 0.014)
    log_colour = np.where(covered[..., None], np.log(np.maximum(colour, 2e-3)), 0)
    patches: dict[str, NDArray[np.generic]] = {}
    for name, (top, bottom, left, right) in _PATCHES.items():
        rows, columns = slice(top, bottom), slice(left, right)
        patches[f"patch_{name}"] = log_colour[rows, columns].astype(np.float16)
        patches[f"patch_{name}_weight"] = (covered[rows, columns] * 255).astype(np.uint8)
        patches[f"patch_{name}_iris"] = np.rint(iris[rows, columns] * 255).astype(np.uint8)
        patches[f"patch_{name}_box"] = np.array([top, bottom, left, right], np.int32)
    return Painting(log_colour, covered, iris, patches)


def _ramp(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _eye(at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return colours (n, 3) and iris weight (n,) of eyeball texels."""
    folded = np.where(at[:, :1] < 0.5, at * [-1, 1] + [1, 0], at) - EYE_CENTRE
    radius, turn = np.hypot(*folded.T) / EYE_RADIUS, np.arctan2(folded[:, 1], folded[:, 0])
    angle = radius / 0.8 * 70
    rng = np.random.default_rng(4)
    fibres = np.zeros(len(at))
    for frequency in (23, 37, 61, 97, 140):
        phase, bend, strength = rng.uniform(0, 2 * np.pi), rng.uniform(-3, 3), rng.uniform(0.5, 1)
        fibres += strength * np.sin(frequency * turn + phase + bend * angle / 10)
    fibres /= 5
    across = np.clip((angle - _PUPIL_ANGLE) / (_IRIS_ANGLE - _PUPIL_ANGLE), 0, 1)
    collarette = np.exp(-(((across - 0.28) / 0.16) ** 2))
    glow = 1 + 0.45 * fibres * np.sin(np.pi * across) + 0.45 * collarette - 0.25 * across
    ring = 1 - 0.75 * _ramp(across, 0.80, 1.0)
    iris_colour = _IRIS * (glow * ring)[:, None]
    pupil = _ramp(angle, _PUPIL_ANGLE + 0.8, _PUPIL_ANGLE - 0.8)[:, None]
    iris_colour = iris_colour * (1 - pupil) + 0.0035 * pupil
    veins = 0.5 + 0.5 * np.sin(7 * turn + 2.0 * np.sin(3 * turn + angle / 9))
    pink = _ramp(angle, 38, 90)[:, None] * (0.35 + 0.3 * veins[:, None])
    white = _SCLERA * (1 - pink * np.array([0.10, 0.34, 0.36]))
    inside = _ramp(angle, _IRIS_ANGLE + 1.2, _IRIS_ANGLE - 1.0)
    colour = white * (1 - inside[:, None]) + iris_colour * inside[:, None]
    return colour, inside * (1 - pupil[:, 0])


def _teeth(at: NDArray[np.float64], *, lower: bool) -> NDArray[np.float64]:
    """Return colours (n, 3) of tooth texels, with gums at the root and seams between the teeth."""
    folded = np.where(at[:, 0] < 0.5, 1 - at[:, 0], at[:, 0])
    along = (folded - 0.765) / 0.22
    across = (at[:, 1] - (0.962 if lower else 0.926)) / 0.03
    across = 1 - across if lower else across
    # Columns are evenly spaced in arch length, but front teeth are narrower than the others.
    borders = np.array([0.0, 0.127, 0.2375, 0.347, 0.4555, 0.564, 0.7085, 0.858, 1.0])
    border_x = np.interp(along, borders, np.arange(len(borders)))
    phase = border_x % 1
    seam = np.minimum(phase, 1 - phase)
    gum_line = 0.40 - 0.07 * (1 - np.sin(np.pi * phase))
    tooth = _ramp(across, gum_line - 0.012, gum_line + 0.012)[:, None]
    enamel = np.array([0.60, 0.54, 0.43]) * (1 - 0.16 * _ramp(across, 0.62, 0.40))[:, None]
    enamel = enamel * (1 - 0.5 * np.exp(-((seam / 0.035) ** 2)))[:, None]
    enamel = enamel * (1 - 0.10 * _ramp(border_x, 1.5, 6))[:, None]
    enamel = enamel * (1 - 0.6 * _ramp(across, 0.88, 0.95))[:, None]
    gum = np.array([0.36, 0.130, 0.115]) * (0.55 + 0.45 * _ramp(across, 0.1, 0.3))[:, None]
    return gum * (1 - tooth) + enamel * tooth
