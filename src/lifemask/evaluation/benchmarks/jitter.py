"""`jitter`: how much landmarks move when the photo changes in ways that do not move the face."""

from functools import partial

import numpy as np
from jaxtyping import Float, UInt8

from lifemask.evaluation.collect import Progress, Request, collect, silent
from lifemask.evaluation.config import EvaluationConfig
from lifemask.evaluation.datasets import (
    DevelopmentPhoto,
    development_folder,
    draw,
    read_photos,
)
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.landmark_jitter import jitter_percent, map_back, perturb
from lifemask.evaluation.tables import Cell, Column, Row, Table

PHOTO_COUNT, PERTURBATIONS = 20, 40


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return the RMS movement of the 68 points in percent of face size."""
    photos = read_photos(development_folder(config.data))
    drawn = draw(photos, config.limit or PHOTO_COUNT, seed=config.seed)
    requests = [
        Request(
            f"{photo.key}__{k}",
            partial(_perturbed, photo, index, k, config.seed),
            False,
            "fast",
            ("landmarks68",),
        )
        for index, photo in enumerate(drawn)
        for k in range(PERTURBATIONS)
    ]
    rows: list[Row] = []
    for system in config.systems:
        predictions = collect(system, "jitter", requests, config, progress=progress)
        values: list[float] = []
        lost = 0
        for index, photo in enumerate(drawn):
            points: list[Float[np.ndarray, "68 2"]] = []
            for k in range(PERTURBATIONS):
                prediction = predictions[f"{photo.key}__{k}"]
                if prediction is None or prediction.landmarks68 is None:
                    lost += 1
                    continue
                back = perturb(photo.pixels(), _generator(config.seed, index, k))[1]
                points.append(map_back(prediction.landmarks68.astype(np.float64), back))
            if len(points) > 1:
                values.append(jitter_percent(np.stack(points)))
        cells: dict[str, Cell] = {}
        if values:
            cells["landmarks %"] = Cell(*mean_and_half_width(np.array(values), seed=config.seed))
            cells["unanswered"] = Cell(lost, note=f"of {len(requests)}")
        rows.append(Row(config.label(system), cells))
    return Table(
        "jitter",
        "RMS movement of the 68 points in % of face size when only the photo is perturbed",
        (Column("landmarks %", 2), Column("unanswered", 0)),
        tuple(rows),
        (
            f"{len(drawn)} photos drawn by seed, {PERTURBATIONS} perturbations each: shift within "
            "2 pixels, scale 1 %, gain 3 %, JPEG quality 80 to 95. Points are mapped back to the "
            "photo; mean over photos; ± over photos.",
            "unanswered: perturbed photos without a prediction.",
            "dashes: no predictions of this program are stored for perturbed photos.",
        ),
    )


def _perturbed(
    photo: DevelopmentPhoto, index: int, k: int, seed: int
) -> UInt8[np.ndarray, "H W 3"]:
    return perturb(photo.pixels(), _generator(seed, index, k))[0]


def _generator(seed: int, index: int, k: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, k])
