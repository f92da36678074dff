"""The skin tone of the stills of `synthetic`, without a free scale, by thirds of the true tone."""

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.benchmarks.synthetic_stills import STILL_FIELDS
from lifemask.evaluation.collect import Progress, Request, collect
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.ict_faces.photo import FaceTruth
from lifemask.evaluation.ict_faces.sets import TestFace
from lifemask.evaluation.metrics.appearance_error import nearest_filled
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.skin_tone import log_albedo_rms, typology_angle
from lifemask.evaluation.tables import Cell, Column, Row, Table

_THIRDS = ("darkest", "middle", "lightest")
_COLUMNS = (
    Column("ITA error °", 1),
    Column("ITA distance °", 1),
    Column("log albedo RMS", 3),
)


def tone_table(faces: list[TestFace], config: EvaluationConfig, progress: Progress) -> Table:
    """Return the errors of tone of each system, for the darkest to the lightest third of people."""
    quality: Quality = "fast" if config.fast else "full"
    requests = [Request(f.key, f.pixels, True, quality, STILL_FIELDS) for f in faces]
    truths = [face.truth() for face in faces]
    angles = np.array([_angle(truth.albedo, truth) for truth in truths])
    thirds = np.array_split(np.argsort(angles[np.isfinite(angles)]), len(_THIRDS))
    known = np.flatnonzero(np.isfinite(angles))
    rows: list[Row] = []

    def add(name: str, albedos: list[Float[np.ndarray, "H W 3"] | None], reference: bool) -> None:
        figures = [
            {} if albedo is None else _figures(albedo, truth, angle)
            for albedo, truth, angle in zip(albedos, truths, angles, strict=True)
        ]
        for label, third in zip(_THIRDS, thirds, strict=True):
            chosen = [figures[k] for k in known[third] if figures[k]]
            rows.append(Row(f"{name}, {label}", _cells(chosen, config.seed), reference))

    for system in config.systems:
        predictions = collect(system, "synthetic", requests, config, progress=progress)
        albedos: list[Float[np.ndarray, "H W 3"] | None] = []
        for face, truth in zip(faces, truths, strict=True):
            prediction = predictions[face.key]
            size = (truth.skin.shape[0], truth.skin.shape[1])
            albedo = None if prediction is None else prediction.map("albedo", size)
            albedos.append(None if albedo is None else nearest_filled(albedo, albedo.max(-1) > 0))
        add(config.label(system), albedos, False)
    colours = [truth.albedo[truth.skin].mean(0) for truth in truths if truth.skin.any()]
    constant = np.mean(colours, axis=0) if colours else np.zeros(3)
    add("constant albedo", [np.broadcast_to(constant, t.albedo.shape) for t in truths], True)
    return Table(
        "synthetic_tone",
        "skin tone of ICT-FaceKit people, without a free scale, by thirds of the true tone",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(faces)} people, quality {quality}; ± over people. The thirds are those of the typology "
            "angle (ITA) of the mean true albedo of visible skin.",
            "ITA error: of the mean albedo of visible skin, positive where skin comes out too light; "
            "ITA distance: its absolute value; log albedo RMS: over visible skin and colours.",
            "dashes: the program gives no albedo.",
        ),
    )


def _angle(albedo: Float[np.ndarray, "H W 3"], truth: FaceTruth) -> float:
    return typology_angle(albedo[truth.skin].mean(0)) if truth.skin.any() else float("nan")


def _figures(
    albedo: Float[np.ndarray, "H W 3"], truth: FaceTruth, angle: float
) -> dict[str, float]:
    if not truth.skin.any():
        return {}
    error = _angle(albedo, truth) - angle
    return {
        "ITA error °": error,
        "ITA distance °": abs(error),
        "log albedo RMS": log_albedo_rms(albedo, truth.albedo, truth.skin),
    }


def _cells(figures: list[dict[str, float]], seed: int) -> dict[str, Cell]:
    """Return the means over people; none without people."""
    cells: dict[str, Cell] = {}
    for column in _COLUMNS if figures else ():
        values = np.array([figure[column.name] for figure in figures])
        mean, width = mean_and_half_width(values, seed=seed)
        cells[column.name] = Cell(mean, width)
    return cells
