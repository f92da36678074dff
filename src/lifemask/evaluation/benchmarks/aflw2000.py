"""`aflw2000`: 68 fixed points on AFLW2000-3D, end to end and on the official crops."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from lifemask.evaluation.aflw2000 import CROP_SIZE, Aflw2000Face, read_aflw2000
from lifemask.evaluation.collect import Progress, Request, collect, is_stored, silent
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.datasets import draw
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.box_error import box_error
from lifemask.evaluation.metrics.landmark_error import yaw_bin
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.evaluation.yaw_cells import BIN_NAMES, yaw_cells

_KINDS = ("photo", "crop")
_COLUMNS = tuple(
    Column(f"{kind} {name}", 0 if name == "missed" else 2)
    for kind in _KINDS
    for name in (*BIN_NAMES, "balanced", "plain", "missed")
)


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return the normalised mean error of 68 points by absolute yaw, percent of the true box.

    Raises:
        EvaluationError: the data are missing or damaged.
    """
    folder = _folder(config)
    faces = draw(read_aflw2000(folder), config.limit, seed=config.seed)
    bins = yaw_bin(np.array([face.yaw_degrees for face in faces]))
    rows: list[Row] = []
    for system in config.systems:
        cells: dict[str, Cell] = {}
        for kind in _KINDS:
            requests = [r for face in faces for r in _requests(face, kind)]
            if len(requests) < len(faces):
                continue
            predictions = collect(
                system, "aflw2000", requests, config, development=folder, progress=progress
            )
            errors = np.array(
                [_error(face, p, kind) for face, p in zip(faces, predictions.values(), strict=True)]
            )
            if np.isfinite(errors).any() or not is_stored(system, folder):
                found = _cells(errors, bins, seed=config.seed)
                cells |= {f"{kind} {name}": cell for name, cell in found.items()}
        rows.append(Row(config.label(system), cells))
    counts = ", ".join(f"{(bins == b).sum()} {name}" for b, name in enumerate(BIN_NAMES))
    return Table(
        "aflw2000",
        "68 points of AFLW2000-3D, error in % of the true points' box, by absolute yaw in degrees",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(faces)} faces ({counts}); quality fast; ± over faces. The points are fixed on the "
            "surface, hidden or not.",
            "photo: the largest face that is detected in the whole photo; crop: the official crop of "
            f"{CROP_SIZE} pixels, without detection. missed: faces without a prediction; they do not "
            "count in the errors beside.",
            "balanced: the mean of the three bins; plain: the mean over all faces.",
            "Published, balanced: SynergyNet 3.41, 3DDFA_V2 3.51, 2DASL 3.53.",
            "dashes: the photos are not in the folder, or no predictions of the program are stored.",
        ),
    )


def _folder(config: EvaluationConfig) -> Path:
    named = config.data if config.data is not None else os.environ.get("LIFEMASK_DATA")
    if named is None:
        raise EvaluationError("Name the folder of AFLW2000-3D with --data.")
    return Path(named)


def _requests(face: Aflw2000Face, kind: str) -> list[Request]:
    """Return the request for a photo or a crop; none if there is no photo."""
    load = face.photo if kind == "photo" else face.crop
    key = face.key if kind == "photo" else f"{face.key}__crop"
    return [] if load is None else [Request(key, load, kind == "crop", "fast", ("landmarks68",))]


def _error(face: Aflw2000Face, prediction: Prediction | None, kind: str) -> float:
    """Return the error in percent; NaN without a prediction."""
    if prediction is None or prediction.landmarks68 is None:
        return float("nan")
    points = prediction.landmarks68
    if kind == "crop":
        points = face.photo_points(points)
    return box_error(points, face.landmarks68, face.landmarks68)


def _cells(
    errors: Float[np.ndarray, "N"], bins: Int[np.ndarray, "N"], *, seed: int
) -> dict[str, Cell]:
    """Return the cells of one kind; errors of missed faces are NaN."""
    found = np.isfinite(errors)
    cells = {"missed": Cell(float((~found).sum()), note=f"of {len(errors)}")}
    if found.any():
        cells |= yaw_cells(errors[found], bins[found], mean="balanced", seed=seed)
        cells["plain"] = Cell(*mean_and_half_width(errors[found], seed=seed))
    return cells
