"""The relit faces of `synthetic`: predictions of a person's photo under other lights."""

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.collect import Progress, Request, collect
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.ict_faces.head import light_reaches
from lifemask.evaluation.ict_faces.light import TestLight
from lifemask.evaluation.ict_faces.photo import FaceTruth
from lifemask.evaluation.ict_faces.sets import RelitFace
from lifemask.evaluation.metrics.appearance_error import nearest_filled, relit_psnr
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.normal_error import unit
from lifemask.evaluation.pixels import linear_from_pixels
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.surface_maps import camera_of_prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table

_KEEP = (
    "vertices_camera", "triangles", "landmarks68", "landmarks68_camera",
    "normals", "mask", "depth", "albedo",
)  # fmt: skip

_COLUMNS = (
    Column("relit PSNR dB", 1),
    Column("worst light dB", 1),
    Column("without shadows dB", 1),
)


def relit_table(faces: list[RelitFace], config: EvaluationConfig, progress: Progress) -> Table:
    """Return the similarity of photos and each system's albedo and geometry under the true lights."""
    quality: Quality = "fast" if config.fast else "full"
    requests = [Request(f.key, f.pixels, True, quality, _KEEP) for f in faces]
    rows: list[Row] = []
    for system in config.systems:
        predictions = collect(system, "synthetic", requests, config, progress=progress)
        values: dict[str, list[float]] = {}
        for face in faces:
            prediction = predictions[face.key]
            if prediction is not None:
                _add(values, prediction, face)
        rows.append(Row(config.label(system), _cells(values, config.seed)))
    rows += _references(faces, config.seed)
    return Table(
        "synthetic_relit",
        "ICT-FaceKit people predicted under unseen lights",
        _COLUMNS,
        tuple(rows),
        (
            f"{len(faces)} people, {len(faces[0].relit()) if faces else 0} lights each (a smooth "
            f"environment and a lamp), one photo given, yaw up to 50°, quality {quality}; ± over "
            "people.",
            "PSNR over the face's visible skin (without ears and neck) after one scale, sRGB values. "
            "The prediction is albedo x shading of the predicted normals under the true light, with "
            "the lamp's shadows cast by the predicted mesh. A pixel that the program leaves empty "
            "takes the nearest colour. worst light: the lowest over a person's lights; without "
            "shadows: no shadow is cast.",
            "dashes: relighting needs albedo and normals, shadows need mesh and depth.",
        ),
    )


def _add(values: dict[str, list[float]], prediction: Prediction, face: RelitFace) -> None:
    truth = face.truth()
    size = (truth.skin.shape[0], truth.skin.shape[1])
    albedo, normals = prediction.map("albedo", size), prediction.map("normals", size)
    if albedo is None or normals is None or not truth.skin.any():
        return
    points = _surface_points(prediction, size)
    given = (np.linalg.norm(normals, axis=-1) > 0.5) & (albedo.max(-1) > 0)
    shaded: list[float] = []
    bare: list[float] = []
    for light, pixels in face.relit():
        target = linear_from_pixels(pixels)
        flat = nearest_filled(albedo * light.shading(unit(normals)), given)
        bare.append(relit_psnr(flat, target, truth.skin))
        if points is not None:
            lit = _lit(light, prediction, points, normals)
            cast = nearest_filled(albedo * light.shading(unit(normals), lit=lit), given)
            shaded.append(relit_psnr(cast, target, truth.skin))
    values.setdefault("without shadows dB", []).append(float(np.mean(bare)))
    if shaded:
        values.setdefault("relit PSNR dB", []).append(float(np.mean(shaded)))
        values.setdefault("worst light dB", []).append(min(shaded))


def _surface_points(
    prediction: Prediction, size: tuple[int, int]
) -> Float[np.ndarray, "H W 3"] | None:
    """Return the surface point of each pixel in light axes, metres; None without a mesh."""
    depth, camera = prediction.map("depth", size), camera_of_prediction(prediction, size)
    if depth is None or camera is None:
        return None
    if prediction.vertices_camera is None or prediction.triangles is None:
        return None
    rows, columns = np.indices(size) + 0.5
    x0, y0 = camera.principal_point.tolist()
    focal = float(camera.focal_pixels)
    return np.stack([(columns - x0) * depth / focal, -(rows - y0) * depth / focal, -depth], -1)


def _lit(
    light: TestLight,
    prediction: Prediction,
    points: Float[np.ndarray, "H W 3"],
    normals: Float[np.ndarray, "H W 3"],
) -> Float[np.ndarray, "H W"]:
    assert prediction.vertices_camera is not None
    assert prediction.triangles is not None
    seen = points[..., 2] < 0
    vertices = prediction.vertices_camera.astype(np.float64) * [1.0, -1.0, -1.0]
    outside = points[seen] + 0.0025 * unit(normals)[seen]
    result = np.zeros(seen.shape)
    triangles = prediction.triangles.astype(np.int64)
    result[seen] = light_reaches(vertices, triangles, outside, light.direction)
    return result


def _references(faces: list[RelitFace], seed: int) -> list[Row]:
    """Return rows of references: the unchanged photo, and true normals with two albedos."""
    named: dict[str, dict[str, list[float]]] = {
        "photo unchanged": {},
        "true normals, constant albedo": {},
        "true normals and albedo": {},
    }
    for face in faces:
        truth = face.truth()
        if not truth.skin.any():
            continue
        photo = linear_from_pixels(face.pixels())
        constant = np.broadcast_to(truth.albedo[truth.skin].mean(0), photo.shape)
        for name, values in named.items():
            figures: list[float] = []
            for light, pixels in face.relit():
                target = linear_from_pixels(pixels)
                figures.append(
                    relit_psnr(_reference(name, photo, constant, truth, light), target, truth.skin)
                )
            values.setdefault("without shadows dB", []).append(float(np.mean(figures)))
    return [Row(name, _cells(values, seed), reference=True) for name, values in named.items()]


def _reference(
    name: str,
    photo: Float[np.ndarray, "H W 3"],
    constant: Float[np.ndarray, "H W 3"],
    truth: FaceTruth,
    light: TestLight,
) -> Float[np.ndarray, "H W 3"]:
    if name == "photo unchanged":
        return photo
    albedo = constant if name == "true normals, constant albedo" else truth.albedo
    return albedo * light.shading(truth.normals)


def _cells(values: dict[str, list[float]], seed: int) -> dict[str, Cell]:
    return {k: Cell(*mean_and_half_width(np.array(v), seed=seed)) for k, v in values.items() if v}
