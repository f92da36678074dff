"""The distribution of people over the head's modes: calibrated mean, symmetric principal modes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from .assembly import Assembly
from .identity import Modes
from .makehuman import EYE_HELPER


@dataclass(frozen=True)
class People:
    """A Gaussian over heads, on the whole base mesh."""

    mean: NDArray[np.float64]
    """(19158, 3) mean base shape, metres."""
    modes: NDArray[np.float64]
    """(K, 19158, 3) metres per standard deviation."""


def artists_people(assembly: Assembly, index: NDArray[np.int64], modes: Modes) -> People:
    """Return the distribution of random people from MakeHuman's targets.

    Args:
        assembly: the parts of the head.
        index: base vertices of the modes.
        modes: principal modes of random people.
    """
    mean = assembly.base.vertices.copy()
    mean[index] = modes.mean
    spread = np.zeros((len(modes.basis), *mean.shape))
    spread[:, index] = modes.basis
    return People(mean, spread)


def calibrated_people(people: People, assembly: Assembly, statistics: Path) -> People:
    """Return the calibrated distribution of people.

    Args:
        people: the artists' people.
        assembly: the parts of the head.
        statistics: file of the calibration: `mean` (N,) and `modes` (K, N) are coefficients of the
            artists' modes; `smooth_mean` (S, 3) and `smooth_modes` (K, S, 3) are added to the
            skin's control vertices, `smooth_eye_mean` (2, 3) and `smooth_eye_modes` (K, 2, 3) to
            the eyeball centres, millimetres.

    Raises:
        ValueError: the file belongs to another head.
    """
    stored = {name: tensor.astype(float) for name, tensor in load_file(statistics).items()}
    artists, skin = len(people.modes), assembly.skin.base_index
    if stored["modes"].shape[1] != artists or stored["smooth_mean"].shape[0] != len(skin):
        raise ValueError(
            f"{statistics} describes {stored['modes'].shape[1]} modes of "
            f"{stored['smooth_mean'].shape[0]} vertices, this head has {artists} of {len(skin)}: "
            "run tools/calibrate_face_model.py again."
        )
    mean = people.mean + np.tensordot(stored["mean"], people.modes, 1)
    modes = np.tensordot(stored["modes"], people.modes, 1)
    half = (EYE_HELPER.start + EYE_HELPER.stop) // 2
    for shape, prefix in ((mean[None], "mean"), (modes, "modes")):
        surface = stored[f"smooth_{prefix}"].reshape(len(shape), -1, 3) / 1000
        eyes = stored[f"smooth_eye_{prefix}"].reshape(len(shape), 2, 1, 3) / 1000
        shape[:, skin] += surface
        shape[:, EYE_HELPER.start : half] += eyes[:, 0]
        shape[:, half : EYE_HELPER.stop] += eyes[:, 1]
    return People(mean, modes)


def symmetric_mean(people: People, mirror: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean shape (19158, 3) of the people and their mirror images."""
    return (people.mean + people.mean[mirror] * [-1, 1, 1]) / 2


def symmetric_modes(
    modes: NDArray[np.float64],
    eyes: NDArray[np.float64],
    assembly: Assembly,
    weights: NDArray[np.float64],
    count: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the principal modes of people and their mirror images, and their variances.

    Every mode is symmetric or antisymmetric, and they are orthogonal in the metric of `weights`.

    Args:
        modes: (K, C, 3) control displacements per standard deviation.
        eyes: (K, 2, 3) displacements of the eyeball centres of the same modes.
        assembly: the parts of the head.
        weights: (V,) weights of the level-1 skin vertices; they sum to one.
        count: number of modes to keep.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    mirror, skin = assembly.control_mirror, assembly.control_counts["skin"]
    found: list[tuple[NDArray[np.float64], ...]] = []
    for sign in (1, -1):
        part = (modes + sign * modes[:, mirror] * flip) / 2
        eye_part = (eyes + sign * eyes[:, ::-1] * flip) / 2
        fine = assembly.skin.refine(part[:, :skin]) * np.sqrt(weights)[:, None]
        flat = fine.reshape(len(part), -1)
        variance, turn = np.linalg.eigh(flat @ flat.T)
        found.append((variance, np.tensordot(turn.T, part, 1), np.tensordot(turn.T, eye_part, 1)))
    variance, basis, centres = (np.concatenate(pieces) for pieces in zip(*found, strict=True))
    order = np.argsort(-variance)
    basis, centres = basis[order[:count]], centres[order[:count]]
    largest = np.abs(basis.reshape(count, -1)).argmax(1)
    sign = np.sign(basis.reshape(count, -1)[np.arange(count), largest])[:, None, None]
    return basis * sign, centres * sign, variance[order]
