"""The stills of `synthetic`: points, surface, normals, albedo and light of 300 people, by yaw."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from lifemask.evaluation.benchmarks.still_evaluator import (
    FEWEST_HIDDEN,
    StillEvaluator,
    appearance,
)
from lifemask.evaluation.collect import Progress, Request, collect
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.correspondence import HeadToIct
from lifemask.evaluation.ict_faces.photo import FaceTruth
from lifemask.evaluation.ict_faces.sets import YAW_BINS_DEGREES, TestFace
from lifemask.evaluation.metrics.appearance_error import best_scale, relative_rms
from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width
from lifemask.evaluation.metrics.landmark_error import mean_by_bin
from lifemask.evaluation.pixels import linear_from_pixels
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table

STILL_FIELDS = (
    "vertices_camera",
    "vertices_neutral",
    "triangles",
    "face_vertices",
    "vertices_albedo",
    "landmarks68",
    "landmarks68_camera",
    "landmarks68_outline",
    "landmarks68_outline_camera",
    "normals",
    "mask",
    "depth",
    "albedo",
    "shading",
    "light_sh",
)

_BIN_NAMES = ("0–30", "30–60", "60–90")

_COLUMNS = (
    Column("sparse %", 2),
    Column("inner %", 2),
    Column("dense %", 2),
    Column("surface mm", 2),
    Column("points mm", 2),
    Column("neutral mm", 2),
    Column("normals °", 1),
    Column("depth %", 2),
    Column("empty %", 1),
    Column("albedo seen %", 1),
    Column("chroma °", 1),
    Column("albedo hidden %", 1),
    Column("light %", 1),
    Column("shading energy", 2),
)


@dataclass
class _Figures:
    """The figures of one row for each still; NaN where the program has none."""

    count: int
    values: dict[str, Float[np.ndarray, "N"]] = field(default_factory=dict)

    def add(self, index: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, np.full(self.count, np.nan))[index] = value


def stills_table(
    faces: list[TestFace], partners: HeadToIct, config: EvaluationConfig, progress: Progress
) -> Table:
    """Return every figure of every system by bin of absolute yaw."""
    quality: Quality = "fast" if config.fast else "full"
    requests = [Request(f.key, f.pixels, True, quality, STILL_FIELDS) for f in faces]
    bins = np.arange(len(faces), dtype=np.int64) % len(YAW_BINS_DEGREES)
    rows: list[Row] = []
    for system in config.systems:
        predictions = collect(system, "synthetic", requests, config, progress=progress)
        evaluate = StillEvaluator(partners)
        figures = _Figures(len(faces))
        for index, face in enumerate(faces):
            prediction = predictions[face.key]
            if prediction is not None:
                figures.add(index, evaluate(prediction, face.truth()))
        rows += _rows(config.label(system), figures, bins, config.seed)
    photo, constant = _references(faces, partners)
    rows += _rows("photo as albedo", photo, bins, config.seed, reference=True)
    rows += _rows("constant albedo", constant, bins, config.seed, reference=True)
    return Table(
        "synthetic",
        "photos of ICT-FaceKit heads with complete truth, by absolute yaw in degrees",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(faces)} different people in equal bins of yaw, 256 pixels, each the face itself, "
            f"without detection; quality {quality}; all is the mean of the three bins; ± over "
            "people. No system here was trained on or built from these heads or their colours; only "
            "ICT's shape statistics calibrate the default head.",
            "sparse, dense: mean distance of ICT's own 68 points and of its "
            f"{len(partners.vertices)} measured face vertices, hidden ones too, in % of the 68 "
            "points' box. ICT's jaw points are fixed on the skin, hidden or not, at their places on "
            "a frontal face. A program that gives the visible outline there, as fit does, has a larger "
            "error in profiles. inner is without the jaw.",
            "surface: RMS distance from true vertices within 95 mm of the nose tip to the "
            "predicted surface after similarity and ICP; points: mean distance of true "
            "correspondences after similarity, which includes sliding; neutral: the same for the "
            "face without expression.",
            "normals: mean angle over the face's visible skin (without ears and neck); an empty "
            "pixel counts 90°. empty: share of that skin without albedo, for a program that gives "
            "albedo; the nearest albedo counts there.",
            "depth: mean error over the same skin in % of the range of its true depth, after scale and "
            "offset (RANSAC). shading energy: the spread of the predicted shading over the true one's, by "
            "the albedo's scale; 1 is right, near 0 the shadows lie in the albedo.",
            "albedo: RMS error over RMS truth after one scale found on the visible skin; hidden: at "
            "points that the photo does not show, same scale; chroma: mean angle between RGB "
            "vectors; light: both lights on a white sphere, RMS error over RMS truth, by the "
            "albedo's scale.",
            "dashes: dense, points, neutral and hidden albedo need the default head's vertices, "
            "because only their correspondence to ICT is known; surface needs triangles and 3D "
            "landmarks; albedo and light need a program that gives them; no predictions of 3DDFA_V2 "
            "are stored for these photos.",
        ),
    )


def _references(faces: list[TestFace], partners: HeadToIct) -> tuple[_Figures, _Figures]:
    """Return the figures of two albedos: the photo itself, and one skin colour for everybody."""
    photo, constant = _Figures(len(faces)), _Figures(len(faces))
    truths: list[np.ndarray] = []
    for index, face in enumerate(faces):
        truth = face.truth()
        if not truth.skin.any():
            continue
        truths.append(truth.albedo[truth.skin].mean(0))
        photo.add(index, _albedo_figures(linear_from_pixels(face.pixels()), truth))
    colour = np.mean(truths, axis=0) if truths else np.zeros(3)
    for index, face in enumerate(faces):
        truth = face.truth()
        if truth.skin.any():
            everywhere = np.broadcast_to(colour, truth.albedo.shape)
            constant.add(index, _albedo_figures(everywhere, truth))
            hidden = ~truth.visible[partners.vertices]
            if hidden.sum() >= FEWEST_HIDDEN:
                scale = best_scale(everywhere[truth.skin], truth.albedo[truth.skin])
                wanted = truth.albedo_points[partners.vertices][hidden]
                there = np.broadcast_to(scale * colour, wanted.shape)
                constant.add(index, {"albedo hidden %": relative_rms(there, wanted)})
    return photo, constant


def _albedo_figures(albedo: Float[np.ndarray, "H W 3"], truth: FaceTruth) -> dict[str, float]:
    prediction = Prediction(albedo=albedo)
    return {k: v for k, v in appearance(prediction, truth).items() if k != "normals °"}


def _rows(
    name: str,
    figures: _Figures,
    bins: Int[np.ndarray, "N"],
    seed: int,
    *,
    reference: bool = False,
) -> list[Row]:
    """Return a row for each bin and a row for the mean of bins; without figures, one empty row."""
    if not figures.values:
        return [Row(name, {}, reference)]
    cells: list[dict[str, Cell]] = [{} for _ in range(len(_BIN_NAMES) + 1)]
    for column, values in figures.values.items():
        known = np.isfinite(values)
        v, b = values[known], bins[known]
        for index in range(len(_BIN_NAMES)):
            inside = v[b == index]
            if len(inside):
                cells[index][column] = _cell(
                    inside, lambda d, inside=inside: float(inside[d].mean()), seed, None
                )
        if len(np.unique(b)) == len(_BIN_NAMES):

            def mean_of_bins(
                drawn: Int[np.ndarray, "M"], v: np.ndarray = v, b: np.ndarray = b
            ) -> float:
                return mean_by_bin(v[drawn], b[drawn])[1]

            missing = len(values) - len(v)
            note = f"{missing} unanswered" if missing and column == "sparse %" else ""
            cells[-1][column] = _cell(v, mean_of_bins, seed, b, note)
    names = [f"{name}, {part}" for part in (*_BIN_NAMES, "all")]
    return [Row(n, c, reference) for n, c in zip(names, cells, strict=True)]


def _cell(
    values: Float[np.ndarray, "N"],
    statistic: Callable[[Int[np.ndarray, "N"]], float],
    seed: int,
    strata: Int[np.ndarray, "N"] | None,
    note: str = "",
) -> Cell:
    width = bootstrap_half_width(statistic, len(values), seed=seed, strata=strata)
    return Cell(statistic(np.arange(len(values))), width, note)
