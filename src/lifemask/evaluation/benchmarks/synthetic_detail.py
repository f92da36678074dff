"""`synthetic_detail`: whether the fine normals show the skin's relief, and no relief where none is."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.benchmarks.synthetic import drawing, ict_model, write_pngs
from lifemask.evaluation.collect import Progress, Request, collect, silent
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.ict_faces.detail_photo import SHORTEST_PIXELS, DetailTruth
from lifemask.evaluation.ict_faces.detail_set import HEADS, PHOTO_SIZE, DetailFace, DetailFaces
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.individuality import masked_blur
from lifemask.evaluation.metrics.normal_error import angle_degrees, unit
from lifemask.evaluation.metrics.relief import compare_relief, relief, relief_heights
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table

SIGMA_PIXELS = 4.0
"""Sigma of the high pass in pixels of the photo.

It halves waves of 21 pixels, some 9 mm: three quarters of the relief's RMS stay, and slow errors of a
coarse shape go.
"""

_KEEP = ("normals", "normals_coarse")

_COLUMNS = (
    Column("detail correlation", 3, "≥ 0.45"),
    Column("detail amplitude", 2, "0.6 to 1.4"),
    Column("false detail mm", 3, "< 0.05"),
    Column("surface correlation", 3),
    Column("surface amplitude", 2),
    Column("false surface mm", 3),
    Column("normals °", 1),
)


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return one table with the figures of fine normals.

    Raises:
        EvaluationError: ICT-FaceKit is missing, or a system fails.
    """
    faces = _faces(config, progress)
    quality: Quality = "fast" if config.fast else "full"
    requests = [Request(f.key, f.pixels, True, quality, _KEEP) for f in faces]
    given = {
        system: collect(system, "synthetic_detail", requests, config, progress=progress)
        for system in config.systems
    }
    figures = {system: _Figures() for system in config.systems}
    smooth, truth = _Figures(), _Figures()
    heights: list[float] = []
    for face in faces:
        true = face.truth()
        case = _Case.of(true)
        for system, predictions in given.items():
            figures[system].add(_compared(predictions[face.key], case))
        for reference, normals in ((smooth, true.normals_coarse), (truth, true.normals)):
            prediction = Prediction(normals=normals, normals_coarse=true.normals_coarse)
            reference.add(_compared(prediction, case))
        if true.has_relief:
            heights.append(case.true_millimetres)
    rows = [Row(config.label(s), f.cells(config.seed)) for s, f in figures.items()]
    rows += [
        Row("smooth truth", smooth.cells(config.seed), reference=True),
        Row("truth", truth.cells(config.seed), reference=True),
    ]
    return Table(
        "synthetic_detail",
        "relief of the skin on ICT-FaceKit heads: folds, pores and hatching, with known normals",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(faces)} different people, {PHOTO_SIZE} pixels, yaw up to 50°, lamp and environment, "
            f"quality {quality}; ± over people. {len(heights)} have relief, with wavelengths of "
            f"{SHORTEST_PIXELS:.0f} pixels and longer and a mean RMS of "
            f"{np.mean(heights) if heights else 0:.3f} mm after the high pass. "
            f"{len(faces) - len(heights)} have none, but moles, freckles, stubble, make-up, hairs or "
            "blemishes.",
            "Both are differences of normals after a Gaussian high pass with sigma "
            f"{SIGMA_PIXELS:.0f} pixels (the difference minus its mean weighted by a Gaussian over the "
            "measured pixels), on visible skin without brows, lids and lips, and without steep pixels. "
            "detail: the program's fine normals minus its own smooth ones, so only what it adds counts; "
            "surface: its fine normals minus the true smooth ones, so errors of its coarse shape count as "
            "far as they are as fine as relief. Both are compared with the true fine normals minus the "
            "true smooth ones.",
            "correlation: over pixels and components, on the heads with relief; amplitude: RMS over that of "
            "the truth; false: on the heads without relief, RMS height that the high-passed difference "
            "integrates to.",
            "normals: mean angle over the same skin; an empty pixel counts 90°.",
            "dashes: detail needs `normals_coarse`; a program without normals has no figures.",
        ),
    )


def write_photos(
    config: EvaluationConfig, folder: Path, *, progress: Progress = silent
) -> list[Path]:
    """Write all photos as `synthetic_detail/KEY.png` for programs that run elsewhere."""
    return write_pngs(_faces(config, progress), folder / "synthetic_detail")


def _faces(config: EvaluationConfig, progress: Progress) -> list[DetailFace]:
    faces = DetailFaces(ict_model(config), seed=config.seed, cache=config.cache)
    count = HEADS if config.limit is None else min(HEADS, config.limit)
    return faces.faces(count, drawing(progress, "heads with relief"))


@dataclass(frozen=True)
class _Case:
    """One head's truth and its true relief, both cropped to the measured skin."""

    size: tuple[int, int]
    """(height, width) of the photo."""
    box: tuple[slice, slice]
    """Rows and columns of the crop."""
    truth: DetailTruth
    relief: Float[np.ndarray, "H W 3"]

    @staticmethod
    def of(whole: DetailTruth) -> "_Case":
        rows, columns = (_span(np.atleast_1d(whole.measured.any(axis))) for axis in (1, 0))
        truth = whole.cropped(rows, columns)
        true = relief(truth.normals, truth.normals_coarse, truth.measured, sigma=SIGMA_PIXELS)
        return _Case(
            (whole.measured.shape[0], whole.measured.shape[1]), (rows, columns), truth, true
        )

    def map(self, prediction: Prediction, name: str) -> np.ndarray | None:
        """Return the crop of a predicted map; None if missing."""
        whole = prediction.map(name, self.size)
        return None if whole is None else whole[self.box]

    @property
    def true_millimetres(self) -> float:
        """RMS of the true heights after the high pass."""
        heights, mask = 1000 * self.truth.heights[..., None], self.truth.measured
        return _rms((heights - masked_blur(heights, mask, sigma=SIGMA_PIXELS))[mask])


def _span(present: Bool[np.ndarray, "N"]) -> slice:
    """Return the smallest range with all that is present; one element if nothing is."""
    where = np.flatnonzero(present)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 1)


def _compared(prediction: Prediction | None, case: _Case) -> dict[str, float]:
    """Return the figures of one head by column; none without normals."""
    truth, mask = case.truth, case.truth.measured
    normals = None if prediction is None else case.map(prediction, "normals")
    if prediction is None or normals is None or not mask.any():
        return {}
    given = np.linalg.norm(normals, axis=-1) > 0.5
    angles = np.where(given, angle_degrees(unit(normals), unit(truth.normals)), 90.0)
    result = {"normals °": float(angles[mask].mean())}
    for name, smooth in _smooth_normals(prediction, case):
        found = relief(normals, smooth, mask, sigma=SIGMA_PIXELS)
        if truth.has_relief:
            figures = compare_relief(found, case.relief, mask)
            result[f"{name} correlation"] = figures.correlation
            result[f"{name} amplitude"] = figures.amplitude
        else:
            scale = truth.millimetres_per_pixel
            heights = relief_heights(found, truth.normals_coarse, scale, mask)
            result[f"false {name} mm"] = _rms(heights[mask])
    return result


def _smooth_normals(
    prediction: Prediction, case: _Case
) -> Iterator[tuple[str, Float[np.ndarray, "H W 3"]]]:
    """Yield the smooth normals that relief is measured from, with the name in their columns."""
    yield "surface", case.truth.normals_coarse
    own = case.map(prediction, "normals_coarse")
    if own is not None:
        yield "detail", own


def _rms(values: Float[np.ndarray, "*N"]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@dataclass
class _Figures:
    """The figures of one row, one value for each head that has them."""

    values: dict[str, list[float]] = field(default_factory=dict)
    unanswered: int = 0

    def add(self, figures: dict[str, float]) -> None:
        self.unanswered += not figures
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def cells(self, seed: int) -> dict[str, Cell]:
        cells = {
            name: Cell(*mean_and_half_width(np.array(values), seed=seed))
            for name, values in self.values.items()
        }
        if self.unanswered and "normals °" in cells:
            cells["normals °"] = replace(cells["normals °"], note=f"{self.unanswered} unanswered")
        return cells
