"""The clips of `synthetic`: how much the shape and albedo of a person change between photos."""

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.collect import Progress, Request, collect
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.correspondence import HeadToIct
from lifemask.evaluation.ict_faces.sets import TestFace
from lifemask.evaluation.metrics.albedo_error import albedo_variation
from lifemask.evaluation.metrics.appearance_error import best_scale, relative_rms
from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width, mean_and_half_width
from lifemask.evaluation.metrics.identity import same_person_auc, shape_distances
from lifemask.evaluation.metrics.shape_error import corresponding_error
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table

_KEEP = ("vertices_neutral", "face_vertices", "vertices_albedo")

_COLUMNS = (
    Column("neutral mm", 2),
    Column("mean neutral mm", 2),
    Column("spread mm", 2),
    Column("between people mm", 2),
    Column("identity AUC", 3),
    Column("albedo %", 1),
    Column("albedo variation %", 1),
)


def clips_table(
    clips: list[list[TestFace]], partners: HeadToIct, config: EvaluationConfig, progress: Progress
) -> Table:
    """Return errors of each system's neutral shapes and albedos, and how much these vary."""
    quality: Quality = "fast" if config.fast else "full"
    requests = [Request(f.key, f.pixels, True, quality, _KEEP) for clip in clips for f in clip]
    rows: list[Row] = []
    for system in config.systems:
        predictions = collect(system, "synthetic", requests, config, progress=progress)
        rows.append(Row(config.label(system), _cells(clips, predictions, partners, config.seed)))
    return Table(
        "synthetic_clips",
        "four photos each of ICT-FaceKit people, pose, expression and light different",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(clips)} people, yaw up to 60°, every photo given alone, quality {quality}; "
            "± over people.",
            "neutral: mean distance of true correspondences of the face without expression after "
            "similarity; mean neutral: the same for the mean of a person's predictions; spread: RMS "
            "distance between a person's neutral faces after rigid alignment; between people: the "
            "same for different people; identity AUC: chance that the first is smaller.",
            "albedo: RMS error over RMS truth at all face vertices after one scale; variation: "
            "standard deviation over the four photos, over their mean, at each vertex. It is 0 for "
            "every constant albedo, so it has a meaning only beside the error.",
            "dashes: neutral, mean neutral and albedo need the default head's vertices, because only "
            "their correspondence to ICT is known; albedo needs a program that gives it; identity "
            "AUC needs neutral faces that differ from photo to photo.",
        ),
    )


def _cells(
    clips: list[list[TestFace]],
    predictions: dict[str, Prediction | None],
    partners: HeadToIct,
    seed: int,
) -> dict[str, Cell]:
    values: dict[str, list[float]] = {}
    shapes: list[np.ndarray] = []
    owners: list[int] = []
    for person, clip in enumerate(clips):
        given = [p for p in (predictions[face.key] for face in clip) if p is not None]
        if len(given) < len(clip):
            continue
        neutral = [p.neutral_face() for p in given]
        if all(n is not None for n in neutral):
            shapes += [n for n in neutral if n is not None]
            owners += [person] * len(clip)
        for name, value in _against_truth(clip, given, partners).items():
            values.setdefault(name, []).append(value)
    cells = {name: Cell(*mean_and_half_width(np.array(v), seed=seed)) for name, v in values.items()}
    if len(set(owners)) > 1:
        cells |= _identity_cells(np.stack(shapes), np.array(owners), seed)
    return cells


def _against_truth(
    clip: list[TestFace], given: list[Prediction], partners: HeadToIct
) -> dict[str, float]:
    truth = clip[0].truth()
    chosen, result = partners.vertices, dict[str, float]()
    neutral = [a.vertices_neutral for a in given if a.vertices_neutral is not None]
    if len(neutral) == len(given) and all(len(n) == partners.vertex_count for n in neutral):
        wanted = truth.vertices_neutral[chosen]
        points = [partners.partners(n) for n in neutral]
        result["neutral mm"] = 1000 * float(
            np.mean([corresponding_error(p, wanted) for p in points])
        )
        result["mean neutral mm"] = 1000 * corresponding_error(np.mean(points, axis=0), wanted)
    colours = [a.vertices_albedo for a in given if a.vertices_albedo is not None]
    if len(colours) == len(given) and all(len(c) == partners.vertex_count for c in colours):
        wanted = truth.albedo_points[chosen]
        maps = np.stack([partners.partners(c) for c in colours])
        scaled = [best_scale(m, wanted) * m for m in maps]
        result["albedo %"] = float(np.mean([relative_rms(s, wanted) for s in scaled]))
        grey = maps.mean(-1)[:, None]
        everywhere = np.ones(grey.shape[1:], bool)
        result["albedo variation %"] = albedo_variation(grey, everywhere)
    return result


def _identity_cells(
    shapes: Float[np.ndarray, "N V 3"], owners: np.ndarray, seed: int
) -> dict[str, Cell]:
    # With every fourth vertex, the distance hardly changes and the alignment is four times faster.
    distances = shape_distances(shapes[:, ::4])
    people = np.unique(owners)
    rows_of = [np.flatnonzero(owners == p) for p in people]
    same = owners[:, None] == owners
    pairs = np.tril(np.ones_like(same), -1).astype(bool)

    def auc(drawn: np.ndarray) -> float:
        rows = np.concatenate([rows_of[p] for p in drawn])
        return same_person_auc(distances[np.ix_(rows, rows)], owners[rows], rows)

    own = np.array(
        [1000 * distances[np.ix_(r, r)][np.tril_indices(len(r), -1)].mean() for r in rows_of]
    )
    cells = {
        "spread mm": Cell(*mean_and_half_width(own, seed=seed)),
        "between people mm": Cell(1000 * float(distances[pairs & ~same].mean())),
    }
    if distances.max() > 1e-6:
        width = bootstrap_half_width(auc, len(people), seed=seed, samples=200)
        cells["identity AUC"] = Cell(auc(np.arange(len(people))), width)
    return cells
