"""`aflw21`: landmarks on 899 crops, from frontal faces to more than profile; all crops count."""

import numpy as np

from lifemask.evaluation.collect import Progress, Request, collect, is_stored, silent
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.datasets import development_folder, draw, read_aflw21
from lifemask.evaluation.metrics.landmark_error import (
    aflw21_error,
    aflw21_from_landmarks68,
    yaw_bin,
)
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.evaluation.yaw_cells import BIN_NAMES, yaw_cells

_COLUMNS = tuple(
    Column(f"{kind} {name}", bar=bar if kind == "native" else "")
    for kind in ("native", "table")
    for name, bar in zip((*BIN_NAMES, "mean"), ("≤ 4.1", "≤ 5.2", "≤ 9.0", "≤ 6.1"), strict=True)
)


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return landmark errors by absolute yaw, percent of the annotated box.

    Raises:
        EvaluationError: a system that runs on photos has no prediction for a crop.
    """
    development = development_folder(config.data)
    crops = read_aflw21(development)
    crops = draw(crops, config.limit, seed=config.seed)
    annotated = np.stack([c.landmarks for c in crops])
    bins = yaw_bin(np.array([c.yaw_degrees for c in crops]))
    fields = ("landmarks68", "landmarks68_outline", "aflw21")
    requests = [Request(c.key, lambda c=c: c.pixels, True, "fast", fields) for c in crops]
    rows: list[Row] = []
    for system in config.systems:
        predictions = collect(system, "aflw21", requests, config, progress=progress)
        missing = [key for key, prediction in predictions.items() if prediction is None]
        if missing and (len(missing) < len(crops) or not is_stored(system, development)):
            raise EvaluationError(
                f"{config.label(system)} gives no prediction for {len(missing)} of {len(crops)} crops of "
                f"aflw21, {missing[0]!r} first. The crop is the face: predict every one."
            )
        cells: dict[str, Cell] = {}
        for kind in ("native", "table"):
            points = [_points(prediction, kind) for prediction in predictions.values()]
            present = [p for p in points if p is not None]
            if len(present) == len(points):
                errors = aflw21_error(np.stack(present), annotated)
                found = yaw_cells(errors, bins, mean="mean", seed=config.seed)
                cells |= {f"{kind} {name}": cell for name, cell in found.items()}
        rows.append(Row(config.label(system), cells))
    counts = ", ".join(f"{(bins == b).sum()} {name}" for b, name in enumerate(BIN_NAMES))
    return Table(
        "aflw21",
        "19 AFLW points, error in % of the annotated box, by absolute yaw in degrees",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(crops)} crops ({counts}), each the face itself, without detection; quality "
            "fast; mean is the mean of the three bins; ± over crops.",
            "native: points on the program's own surface, chosen once; table: from its 68 iBUG "
            "points, by the same table for every program.",
            "dashes: the program does not give these points for every crop.",
        ),
    )


def _points(prediction: Prediction | None, kind: str) -> np.ndarray | None:
    if prediction is None:
        return None
    if kind == "native":
        return prediction.aflw21
    points = prediction.ibug_points()
    return None if points is None else aflw21_from_landmarks68(points)
