"""`photos`: identity by neutral shape, overlay, plausibility and likeness on the dev photos."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

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
from lifemask.evaluation.metrics.overlay import composite_over_skin, psnr
from lifemask.evaluation.metrics.plausibility import unexplained_log_albedo
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.surface_maps import albedo_on_photo
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.morphable.model import MorphableModel
from lifemask.perception.identity import template_region
from lifemask.perception.lpips import LPIPS, load_lpips
from lifemask.perception.regions import crop_photo
from lifemask.perception.sface import CHIP_SIZE, CHIP_TEMPLATE, SFaceNetwork, load_sface

PHOTO_COUNT = 60
"""Photos drawn by seed unless all are asked for."""

_KEEP = (
    "vertices_camera",
    "vertices_neutral",
    "face_vertices",
    "landmarks68",
    "landmarks68_camera",
    "mask",
    "albedo",
    "shading",
)
_PLAUSIBILITY_MILLIMETRES = 4.0
_LPIPS_SIZE = 224

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
    """What the judge knows about a photo."""

    photo: DevelopmentPhoto
    skin: Bool[np.ndarray, "H W"]
    landmarks68: Float[np.ndarray, "68 2"]


class _Figures:
    """Figures of one row by column, each with the person it belongs to."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[str, float]]] = {}

    def add(self, column: str, scene: _Scene, value: float) -> None:
        """Note a figure of one photo; photos of unknown people show somebody else each."""
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
        answers = collect(system, "photos", requests, config, progress=progress)
        answered = sum(answers[p.key] is not None for p in drawn)
        cells: dict[str, Cell] = {}
        if answered:
            cells["answered"] = Cell(answered, note=f"of {len(drawn)}")
        cells |= _identity_cells(people, answers, config.seed)
        cells |= _overlay_cells(scenes, answers, config.seed)
        rows.append(Row(config.label(system), cells))
        if not any(m and m.vertices_camera is not None for m in mesh.values()):
            mesh = answers
    rows += _reference_rows(scenes, mesh, config.seed)
    sources = sorted({p.source for p in drawn})
    return Table(
        "photos",
        "identity by neutral shape, overlay over skin, plausibility of the albedo, likeness",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(drawn)} photos ({', '.join(sources)}), quality {quality}, "
            f"{len(scenes)} of them with a face found by the judge; ± over "
            "people.",
            f"identity AUC: {len(people)} people with a neutral and a smiling photo; RMS distance "
            "of the neutral faces' vertices after rigid alignment, same-person against "
            "different-person pairs; ± over people; 0.5 is chance.",
            "skin: segmented face inside the dense landmarks without eyes, brows and mouth, the "
            "same pixels for all; skin left empty takes the mean skin colour.",
            "albedo unexplained: RMS of the visible skin's log-albedo, below 4 mm smoothed away, "
            "that all albedo modes together cannot explain; a copy of the photo wins the overlay "
            "and loses here.",
            "identity similarity: cosine of SFace embeddings of the photo and of the render on its "
            "mean colour; this network is not used in fitting or training.",
            "dashes: a program that gives no neutral face has no AUC, one without albedo and "
            "shading no overlay, plausibility or similarity; albedo unexplained needs the "
            "default head's vertices; LPIPS and similarity need weights that are built once "
            "(tools/convert_perception.py).",
        ),
    )


def _scenes(
    photos: list[DevelopmentPhoto], config: EvaluationConfig, progress: Progress
) -> list[_Scene]:
    requests = [Request(p.key, p.pixels, False, "full", ("mask", "landmarks68")) for p in photos]
    found = collect("skin", "photos", requests, config, progress=progress)
    scenes: list[_Scene] = []
    for photo in photos:
        answer = found[photo.key]
        if answer is None or answer.mask is None or answer.landmarks68 is None:
            continue
        if answer.mask.any():
            scenes.append(_Scene(photo, answer.mask, answer.landmarks68))
    return scenes


def _identity_cells(
    people: dict[str, list[DevelopmentPhoto]],
    answers: dict[str, Prediction | None],
    seed: int,
) -> dict[str, Cell]:
    shapes: list[np.ndarray] = []
    owners: list[int] = []
    count = 0
    for pair in people.values():
        faces = [_neutral_face(answers[photo.key]) for photo in pair]
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


def _neutral_face(answer: Prediction | None) -> Float[np.ndarray, "F 3"] | None:
    if answer is None or answer.vertices_neutral is None:
        return None
    if answer.face_vertices is None:
        return answer.vertices_neutral
    return answer.vertices_neutral[answer.face_vertices]


def _overlay_cells(
    scenes: list[_Scene], answers: dict[str, Prediction | None], seed: int
) -> dict[str, Cell]:
    values = _Figures()
    for scene in scenes:
        answer = answers[scene.photo.key]
        if answer is None:
            continue
        pixels = scene.photo.pixels()
        size = (pixels.shape[0], pixels.shape[1])
        albedo, shading = answer.map("albedo", size), answer.map("shading", size)
        mask = answer.map("mask", size)
        if mask is not None:
            values.add("skin covered %", scene, 100 * float(mask[scene.skin].mean()))
        if albedo is None or shading is None or mask is None:
            continue
        render = albedo.astype(np.float32) * shading.astype(np.float32)
        _add_overlay(values, composite_over_skin(render, mask, pixels, scene.skin), scene, pixels)
        unexplained = _unexplained(answer, albedo, mask & scene.skin)
        if unexplained is not None:
            values.add("albedo unexplained", scene, unexplained)
        similarity = _identity_similarity(render, mask, pixels, scene)
        if similarity is not None:
            values.add("identity similarity", scene, similarity)
    return values.cells(seed)


def _reference_rows(
    scenes: list[_Scene], answers: dict[str, Prediction | None], seed: int
) -> list[Row]:
    """Return what the photo itself as albedo reaches, and what its mean skin colour reaches."""
    copied, constant = _Figures(), _Figures()
    for scene in scenes:
        pixels = scene.photo.pixels()
        nothing = np.zeros_like(scene.skin)
        mean_colour = composite_over_skin(
            np.zeros(pixels.shape, np.float32), nothing, pixels, scene.skin
        )
        _add_overlay(constant, mean_colour, scene, pixels)
        answer = answers.get(scene.photo.key)
        if answer is not None:
            linear = _linear(pixels)
            mask = answer.map("mask", (pixels.shape[0], pixels.shape[1]))
            seen = scene.skin if mask is None else mask & scene.skin
            unexplained = _unexplained(answer, linear, seen)
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
    distance = _skin_lpips(composite, pixels, scene.skin)
    if distance is not None:
        values.add("skin LPIPS", scene, distance)


def _skin_lpips(
    composite: Float[np.ndarray, "H W 3"],
    pixels: UInt8[np.ndarray, "H W 3"],
    skin: Bool[np.ndarray, "H W"],
) -> float | None:
    """Return LPIPS over skin on the square around it at 224 pixels; None without the weights."""
    network = _lpips()
    if network is None:
        return None
    rows, columns = np.flatnonzero(skin.any(1)), np.flatnonzero(skin.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    top = (rows[0] + rows[-1] + 1 - side) // 2
    left = (columns[0] + columns[-1] + 1 - side) // 2
    images = [
        _square(array, left, top, side)
        for array in (composite, pixels / 255, skin[..., None].astype(np.float64))
    ]
    with torch.inference_mode():
        return float(network(images[0], images[1], weight=images[2]))


def _square(array: Float[np.ndarray, "H W C"], left: int, top: int, side: int) -> Tensor:
    """Return a square of an image, zero outside, resized to the size LPIPS gets."""
    height, width = array.shape[:2]
    square = np.zeros((side, side, array.shape[2]), np.float32)
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = array[y0:y1, x0:x1]
    image = torch.from_numpy(square).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(
        image, size=(_LPIPS_SIZE, _LPIPS_SIZE), mode="bilinear", antialias=True
    )


def _unexplained(
    answer: Prediction, albedo: Float[np.ndarray, "H W 3"], seen: Bool[np.ndarray, "H W"]
) -> float | None:
    model = _head()
    on_photo = albedo_on_photo(answer, model, (seen.shape[0], seen.shape[1]))
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


def _identity_similarity(
    render: Float[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    pixels: UInt8[np.ndarray, "H W 3"],
    scene: _Scene,
) -> float | None:
    """Return the cosine of the embeddings of photo and render; None without the weights."""
    network = _sface()
    if network is None or not mask.any():
        return None
    shown = composite_over_skin(render, mask, pixels, np.ones_like(mask))
    shown[~mask] = shown[mask].mean(0)
    points = scene.landmarks68
    five = np.stack(
        [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    )
    region = template_region(torch.from_numpy(five.astype(np.float32)), CHIP_TEMPLATE)[None]
    with torch.inference_mode():
        chips = [
            crop_photo(image, region, CHIP_SIZE)
            for image in (pixels, np.round(255 * shown).astype(np.uint8))
        ]
        embeddings = network(torch.cat(chips))
    return float(torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0))


def _linear(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    from lifemask.io.colour import image_from_pixels

    return image_from_pixels(pixels).permute(1, 2, 0).numpy()


@cache
def _head() -> MorphableModel:
    return MorphableModel.from_pretrained()


@cache
def _lpips() -> LPIPS | None:
    try:
        return load_lpips()
    except FileNotFoundError:
        return None


@cache
def _sface() -> SFaceNetwork | None:
    try:
        return load_sface()
    except FileNotFoundError:
        return None
