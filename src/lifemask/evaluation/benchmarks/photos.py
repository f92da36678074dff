"""`photos`: identity by neutral shape, overlay, plausibility and likeness on development photos."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lifemask.evaluation.collect import Progress, Request, collect, silent
from lifemask.evaluation.config import EvaluationConfig, EvaluationError, Quality
from lifemask.evaluation.datasets import (
    DevelopmentPhoto,
    development_folder,
    draw,
    identity_pairs,
    read_photos,
)
from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width, mean_and_half_width
from lifemask.evaluation.metrics.identity import same_person_auc, shape_distances
from lifemask.evaluation.metrics.likeness import identity_similarity, skin_lpips
from lifemask.evaluation.metrics.overlay import composite_over_skin, psnr
from lifemask.evaluation.metrics.plausibility import unexplained_log_albedo
from lifemask.evaluation.pixels import linear_from_pixels
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.surface_maps import albedo_on_photo
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.morphable.model import MorphableModel

PHOTO_COUNT = 60
"""Number of photos that are drawn by seed, unless all are evaluated."""

_KEEP = (
    "vertices_camera",
    "vertices_neutral",
    "face_vertices",
    "landmarks68",
    "landmarks68_camera",
    "landmarks68_outline",
    "mask",
    "albedo",
    "shading",
)
_PLAUSIBILITY_MILLIMETRES = 4.0

_COLUMNS = (
    Column("answered", 0),
    Column("identity AUC", 3, "≥ 0.85"),
    Column("skin PSNR dB", 1),
    Column("skin LPIPS", 3),
    Column("albedo unexplained", 3),
    Column("skin covered %", 1),
    Column("identity similarity", 3),
)


@dataclass(frozen=True)
class _Scene:
    """A photo with the data that are the same for all systems."""

    photo: DevelopmentPhoto
    skin: Bool[np.ndarray, "H W"]
    landmarks68: Float[np.ndarray, "68 2"]


class _Figures:
    """The figures of one row by column, each with its person."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[str, float]]] = {}

    def add(self, column: str, scene: _Scene, value: float) -> None:
        """Add a figure of one photo; a photo of an unknown person counts as one person."""
        person = scene.photo.identity or scene.photo.key
        self._values.setdefault(column, []).append((person, value))

    def cells(self, seed: int) -> dict[str, Cell]:
        """Return the means with their intervals over people."""
        cells: dict[str, Cell] = {}
        for column, pairs in self._values.items():
            people, values = zip(*pairs, strict=True)
            cells[column] = Cell(*mean_and_half_width(np.array(values), people=people, seed=seed))
        return cells


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return identity, overlay, plausibility and likeness of every system in one table."""
    photos = read_photos(development_folder(config.data))
    drawn = photos if config.all else draw(photos, PHOTO_COUNT, seed=config.seed)
    drawn = draw(drawn, config.limit, seed=config.seed)
    people = dict(draw(list(identity_pairs(photos).items()), config.limit, seed=config.seed))
    quality: Quality = "fast" if config.fast else "full"
    scenes = _scenes(drawn, config, progress)
    rows: list[Row] = []
    mesh: dict[str, Prediction | None] = {}
    for system in config.systems:
        needed = {p.key: p for p in [*drawn, *(s for pair in people.values() for s in pair)]}
        requests = [Request(p.key, p.pixels, False, quality, _KEEP) for p in needed.values()]
        predictions = collect(system, "photos", requests, config, progress=progress)
        answered = sum(predictions[p.key] is not None for p in drawn)
        cells: dict[str, Cell] = {}
        if answered:
            cells["answered"] = Cell(answered, note=f"of {len(drawn)}")
        cells |= _identity_cells(people, predictions, config.seed)
        cells |= _overlay_cells(scenes, predictions, config.seed)
        rows.append(Row(config.label(system), cells))
        if not any(m and m.vertices_camera is not None for m in mesh.values()):
            mesh = predictions
    rows += _reference_rows(scenes, mesh, config.seed)
    sources = sorted({p.source for p in drawn})
    return Table(
        "photos",
        "identity by neutral shape, overlay over skin, plausibility of the albedo, likeness",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(drawn)} photos ({', '.join(sources)}), quality {quality}; a face is found in "
            f"{len(scenes)} of them; ± over people.",
            f"identity AUC: {len(people)} people with a neutral and a smiling photo. The distance "
            "is the RMS over the vertices of two neutral faces after rigid alignment. AUC is the "
            "chance that it is smaller for two photos of one person than for photos of two people; "
            "± over people; 0.5 is chance.",
            "skin: the segmented face inside the dense landmarks, without eyes, brows and mouth; "
            "the same pixels for all programs. Skin that a program leaves empty takes the mean skin "
            "colour.",
            "albedo unexplained: RMS of the part of the visible skin's log-albedo that no "
            "combination of albedo modes explains, after smoothing by 4 mm. A copy of the photo as "
            "albedo has the best overlay, but a high value here.",
            "identity similarity: cosine of SFace's embeddings of the photo and of the render on "
            "its mean colour; neither fitting nor training uses this network.",
            "dashes: AUC needs neutral faces; overlay, albedo unexplained and similarity need "
            "albedo and shading; albedo unexplained needs the default head's vertices; LPIPS and "
            "similarity need weights that tools/convert_perception.py builds.",
        ),
    )


def _scenes(
    photos: list[DevelopmentPhoto], config: EvaluationConfig, progress: Progress
) -> list[_Scene]:
    requests = [Request(p.key, p.pixels, False, "full", ("mask", "landmarks68")) for p in photos]
    found = collect("skin", "photos", requests, config, progress=progress)
    scenes: list[_Scene] = []
    for photo in photos:
        prediction = found[photo.key]
        if prediction is None or prediction.mask is None or prediction.landmarks68 is None:
            continue
        if prediction.mask.any():
            scenes.append(_Scene(photo, prediction.mask, prediction.landmarks68))
    return scenes


def _identity_cells(
    people: dict[str, list[DevelopmentPhoto]],
    predictions: dict[str, Prediction | None],
    seed: int,
) -> dict[str, Cell]:
    shapes: list[np.ndarray] = []
    owners: list[int] = []
    count = 0
    for pair in people.values():
        found = [predictions[photo.key] for photo in pair]
        faces = [None if f is None else f.neutral_face() for f in found]
        present = [f for f in faces if f is not None]
        if len(present) == len(pair):
            shapes += present
            owners += [count] * len(pair)
            count += 1
    if count < 2:
        return {}
    if len({s.shape for s in shapes}) > 1:
        raise EvaluationError(
            "The neutral shapes of one system have different numbers of vertices: "
            f"{sorted({len(s) for s in shapes})}. They must correspond vertex by vertex."
        )
    distances = shape_distances(np.stack(shapes))
    owner = np.array(owners)
    photos_of = [np.flatnonzero(owner == p) for p in range(count)]

    def auc_of(drawn: np.ndarray) -> float:
        rows = np.concatenate([photos_of[p] for p in drawn])
        return same_person_auc(distances[np.ix_(rows, rows)], owner[rows], rows)

    width = bootstrap_half_width(auc_of, count, seed=seed, samples=400)
    note = "" if count == len(people) else f"{count} of {len(people)} people"
    return {"identity AUC": Cell(same_person_auc(distances, owner), width, note)}


def _overlay_cells(
    scenes: list[_Scene], predictions: dict[str, Prediction | None], seed: int
) -> dict[str, Cell]:
    values = _Figures()
    for scene in scenes:
        prediction = predictions[scene.photo.key]
        if prediction is None:
            continue
        pixels = scene.photo.pixels()
        size = (pixels.shape[0], pixels.shape[1])
        albedo, shading = prediction.map("albedo", size), prediction.map("shading", size)
        mask = prediction.map("mask", size)
        if mask is not None:
            values.add("skin covered %", scene, 100 * float(mask[scene.skin].mean()))
        if albedo is None or shading is None or mask is None:
            continue
        render = albedo.astype(np.float32) * shading.astype(np.float32)
        _add_overlay(values, composite_over_skin(render, mask, pixels, scene.skin), scene, pixels)
        unexplained = _unexplained(prediction, albedo, mask & scene.skin)
        if unexplained is not None:
            values.add("albedo unexplained", scene, unexplained)
        similarity = identity_similarity(render, mask, pixels, scene.landmarks68)
        if similarity is not None:
            values.add("identity similarity", scene, similarity)
    return values.cells(seed)


def _reference_rows(
    scenes: list[_Scene], predictions: dict[str, Prediction | None], seed: int
) -> list[Row]:
    """Return two rows: the photo itself as albedo, and its mean skin colour as albedo."""
    copied, constant = _Figures(), _Figures()
    for scene in scenes:
        pixels = scene.photo.pixels()
        nothing = np.zeros_like(scene.skin)
        mean_colour = composite_over_skin(
            np.zeros(pixels.shape, np.float32), nothing, pixels, scene.skin
        )
        _add_overlay(constant, mean_colour, scene, pixels)
        prediction = predictions.get(scene.photo.key)
        if prediction is not None:
            linear = linear_from_pixels(pixels)
            mask = prediction.map("mask", (pixels.shape[0], pixels.shape[1]))
            seen = scene.skin if mask is None else mask & scene.skin
            unexplained = _unexplained(prediction, linear, seen)
            if unexplained is not None:
                copied.add("albedo unexplained", scene, unexplained)
    return [
        Row("photo as albedo", copied.cells(seed), reference=True),
        Row("mean skin colour", constant.cells(seed), reference=True),
    ]


def _add_overlay(
    values: _Figures,
    composite: Float[np.ndarray, "H W 3"],
    scene: _Scene,
    pixels: UInt8[np.ndarray, "H W 3"],
) -> None:
    values.add("skin PSNR dB", scene, psnr(composite, pixels, scene.skin))
    distance = skin_lpips(composite, pixels, scene.skin)
    if distance is not None:
        values.add("skin LPIPS", scene, distance)


def _unexplained(
    prediction: Prediction, albedo: Float[np.ndarray, "H W 3"], seen: Bool[np.ndarray, "H W"]
) -> float | None:
    model = _head()
    on_photo = albedo_on_photo(prediction, model, (seen.shape[0], seen.shape[1]))
    if on_photo is None:
        return None
    weight = on_photo.reduced(seen[..., None].astype(np.float64))
    visible = (weight[..., 0] > 0.99) & on_photo.covered
    if visible.sum() < 100:
        return None
    reduced = on_photo.reduced(albedo.astype(np.float64))
    return unexplained_log_albedo(
        reduced,
        on_photo.mean_log,
        on_photo.basis_log,
        visible,
        sigma_pixels=_PLAUSIBILITY_MILLIMETRES / on_photo.millimetres_per_pixel,
    )


@cache
def _head() -> MorphableModel:
    return MorphableModel.from_pretrained()
