"""Measure landmarks on the default head and write assets/head/landmarks.safetensors.

Dense points: random textured people of the model are rendered from many sides, the landmark network
finds points in the pictures, and these are projected back. Where the views disagree, points come from
a thin-plate warp of the network's canonical mesh. iBUG points: ICT-FaceKit's own 68 points,
transferred by a registration of the head to ICT's mean. AFLW points, and the lines along which jaw
points slide, are derived from these.

    python tools/build_landmarks.py --data ../shared/data [--figure landmarks.png]

Run afterwards: `tools/refine_landmarks.py`; `tools/fix_aflw_points.py`, which moves AFLW's points to the
positions of their annotations; and `tools/fit_fixed_jaw.py`, which adds the 68 fixed points.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from lifemask.evaluation.geometry import (
    face_shape,
    ict_target,
    landmark_pairs,
    outer_triangles,
)
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable import MorphableModel
from lifemask.perception import FacePerception
from lifemask.registration import RegistrationConfig, TriangleSurface, register
from lifemask.registration.surface_landmarks import (
    Appearance,
    SurfaceLandmarks,
    complete_landmarks,
    find_surface_landmarks,
    head_camera,
    photograph,
)

ASSETS = Path(__file__).parent.parent / "src" / "lifemask" / "assets"
CENTRE = torch.tensor([0.0, -0.03, 0.0])
Array = NDArray[np.float64]

# Corners and middles of the brows, eyes, nose and mouth in iBUG order, without the eyes' centres,
# nose wings and chin, for which AFLW has other definitions.
_AFLW_FROM_IBUG = {6: 36, 8: 39, 9: 42, 11: 45, 14: 30, 17: 48, 19: 54}
_AFLW_FROM_DENSE = {7: (468,), 10: (473,), 13: (64,), 15: (294,)}
_AFLW_FROM_DENSE |= {
    0: (70, 46),
    1: (105, 52),
    2: (107, 55),
    3: (336, 285),
    4: (334, 282),
    5: (300, 276),
}
# iBUG points, their dense counterparts, and the largest motion in metres.
_NUDGES = (
    (range(17, 27), (70, 63, 105, 66, 107, 336, 296, 334, 293, 300), 0.0030),
    (range(31, 36), (98, 97, 2, 326, 327), 0.0015),
    (range(48, 60), (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181), 0.0012),
)
_AFLW_CHIN, _AFLW_MOUTH, _AFLW_EARS = 20, 18, (12, 16)
_IRIS = {468: 469, 473: 474}


def main() -> None:
    """Build and write the landmarks, and draw them if a figure is requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=ASSETS / "head" / "landmarks.safetensors")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    model = MorphableModel.from_pretrained()
    perception = FacePerception.from_pretrained()
    mean = model.vertices(model.neutral()).double().numpy()
    triangles = model.triangles.numpy()
    snap = Snapper(model, mean)

    found = find_on_people(model, perception, people=6)
    print(_report("head", found))
    dense, dense_weight = complete_landmarks(found)
    print(f"dense points: {(dense_weight[:468] > 0.3).sum()} of 468 stable")
    place_irises(dense, model, mean)
    dense_weight[468:] = 1.0
    dense_index, dense_barycentric = snap.skin(dense)
    ball_index, ball_barycentric = snap.eyeballs(dense[468:])
    dense_index[468:], dense_barycentric[468:] = ball_index, ball_barycentric
    dense = _points(mean, triangles, dense_index, dense_barycentric)

    ict = ict_target(arguments.data / "models" / "ict_facekit_light.npz", perception)
    print(_report("ICT", ict.landmarks))
    shape = face_shape(model)
    pairs = landmark_pairs(shape, found, ict.landmarks)
    fitted = register(
        shape,
        ict.mean[ict.face],
        ict.weights[ict.face],
        normals=ict.normals[ict.face],
        landmarks=pairs,
        config=RegistrationConfig(iterations=20, free_scale=False),
    )
    error = fitted.surface_error(ict.weights[ict.face])
    print(f"registered to ICT: {error * 1e3:.2f} mm, scale {fitted.scale:.4f}")
    carried = TriangleSurface(shape.triangles, len(mean)).closest(fitted.vertices, ict.landmarks68)
    ibug = (carried.barycentric[..., None] * mean[shape.triangles[carried.triangle_index]]).sum(1)
    ibug = towards_dense(ibug, dense)
    ibug = symmetric(ibug, IBUG_MIRROR)
    ibug_index, ibug_barycentric = snap.skin(ibug)
    ibug = _points(mean, triangles, ibug_index, ibug_barycentric)

    aflw = aflw_points(model, mean, ibug, dense)
    aflw_index, aflw_barycentric = snap.skin(aflw)
    for point, number in ((7, 468), (10, 473)):
        aflw_index[point] = dense_index[number]
        aflw_barycentric[point] = dense_barycentric[number]
    ibug_weight = np.ones(68)
    ibug_weight[:17], ibug_weight[17:27] = 0.5, 0.7
    tensors = {
        "landmarks68_outline.triangle_index": ibug_index,
        "landmarks68_outline.barycentric": ibug_barycentric,
        "landmarks68_outline.weight": ibug_weight,
        "aflw21.triangle_index": aflw_index,
        "aflw21.barycentric": aflw_barycentric,
        "aflw21.weight": np.ones(21),
        "dense478.triangle_index": dense_index,
        "dense478.barycentric": dense_barycentric,
        "dense478.weight": dense_weight,
        "contours": jaw_lines(model, mean, ibug),
    }
    write(tensors, arguments.output, arguments.data)
    if arguments.figure:
        draw(model, tensors, arguments.figure)


# ------------------------------------------------------------------------------- dense points


def find_on_people(
    model: MorphableModel, perception: FacePerception, *, people: int
) -> SurfaceLandmarks:
    """Return the dense points from the mean and from random people, on the mean."""
    generator = torch.Generator().manual_seed(11)
    neutral = model.neutral()
    shapes, appearances = [], []
    assert model.albedo is not None
    for person in range(people):
        spread = 0.0 if person == 0 else 0.6
        identity = torch.randn(len(neutral.identity), generator=generator) * spread
        albedo = torch.randn(len(neutral.albedo), generator=generator) * spread
        coefficients = type(neutral)(identity, neutral.expression, neutral.gaze, albedo)
        shapes.append(model.vertices(coefficients))
        appearances.append(Appearance(texture=model.albedo.texture(coefficients.albedo)))
    solid = model.triangle_parts["lashes"][0]
    return find_surface_landmarks(
        perception,
        shapes,
        appearances,
        model.triangles[:solid],
        reference=shapes[0],
        centre=CENTRE,
        landing=torch.from_numpy(outer_triangles(model)),
        uv=model.uv,
        uv_triangles=model.uv_triangles[:solid],
    )


def place_irises(dense: Array, model: MorphableModel, mean: Array) -> None:
    """Set points 468 to 477 on the eyeballs: the middle of the pupil, then the rim of the iris."""
    from lifemask.morphable.eyes import IRIS_ANGLE_RADIANS

    centres = model.eyeball_centres(model.neutral().identity).double().numpy()
    for first, side in ((468, 1), (473, 0)):
        centre = centres[side]
        start, stop = model.vertex_parts["eyeball_left" if side == 0 else "eyeball_right"]
        radius = np.linalg.norm(mean[start:stop] - centre, axis=1).max()
        sine, cosine = np.sin(IRIS_ANGLE_RADIANS), np.cos(IRIS_ANGLE_RADIANS)
        dense[first] = centre + np.array([0, 0, radius])
        # The network's order: first +X in both eyes (towards the nose in the subject's right eye),
        # then up, then -X, then down.
        rim = np.array(
            [[sine, 0, cosine], [0, sine, cosine], [-sine, 0, cosine], [0, -sine, cosine]]
        )
        dense[first + 1 : first + 5] = centre + rim * radius


# ------------------------------------------------------------------- points derived from others

# fmt: off
IBUG_MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on


def towards_dense(ibug: Array, dense: Array) -> Array:
    """Return iBUG points moved slightly to the network's points, as ICT has no brows or colours."""
    result = ibug.copy()
    for points, partners, limit in _NUDGES:
        step = dense[list(partners)] - ibug[list(points)]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        result[list(points)] += step * np.minimum(1, limit / np.maximum(length, 1e-9))
    return result


def symmetric(points: Array, mirror: NDArray[np.int64]) -> Array:
    """Return the mean of the points and the mirror image of their partners."""
    return (points + points[mirror] * [-1, 1, 1]) / 2


def aflw_points(model: MorphableModel, mean: Array, ibug: Array, dense: Array) -> Array:
    """Return AFLW's 21 points: corners from iBUG, eye centres from irises, lobes from the ears."""
    points = np.zeros((21, 3))
    for point, number in _AFLW_FROM_IBUG.items():
        points[point] = ibug[number]
    for point, numbers in _AFLW_FROM_DENSE.items():
        points[point] = dense[list(numbers)].mean(0)
    points[_AFLW_MOUTH] = ibug[60:68].mean(0)
    # AFLW's chin point is the middle of the chin's front; iBUG's is its lower rim.
    points[_AFLW_CHIN] = (2 * ibug[8] + dense[199]) / 3
    ears = np.flatnonzero(model.regions["ears"].numpy() > 0.9)
    for point, side in zip(_AFLW_EARS, (-1, 1), strict=True):
        own = ears[mean[ears, 0] * side > 0.04]
        lowest = own[np.argsort(mean[own, 1])[:25]]
        points[point] = mean[lowest].mean(0)
    return points


def jaw_lines(model: MorphableModel, mean: Array, ibug: Array) -> NDArray[np.int64]:
    """Return (17, L) skin vertices along which the jaw points may slide, from the jaw to the cheek.

    Each line is the strip of skin around a plane through the jaw point and the direction of view,
    tilted half way towards the middle of the face. It ends slightly behind the jaw, so that points on
    the near side of a rotated face stay on the jaw and do not slide to the neck.
    """
    regions = {name: weight.numpy() for name, weight in model.regions.items()}
    skin = (regions["skin"] > 0.5) & (regions["ears"] < 0.5)
    candidates = np.flatnonzero(skin)
    middle = ibug[[33, 51]].mean(0)
    lines: list[list[int]] = []
    for point in ibug[:17]:
        direction = (point - middle)[:2] * [1.0, 0.5]
        direction = np.array([*direction / (np.linalg.norm(direction) + 1e-9), 0.0])
        across = np.cross(direction, [0.0, 0.0, 1.0])
        offset = mean[candidates] - point
        near = np.abs(offset @ across) < 0.0026
        outward = offset @ direction
        depth = offset[:, 2]
        inside = near & (outward > -0.035) & (outward < 0.004) & (depth > -0.006) & (depth < 0.06)
        inside[np.linalg.norm(offset, axis=1).argmin()] = True
        chosen = candidates[inside]
        distance = np.linalg.norm(mean[chosen] - point, axis=1)
        lines.append(chosen[np.argsort(distance)].tolist())
    length = max(map(len, lines))
    result = np.full((17, length), -1, dtype=np.int64)
    for row, line in zip(result, lines, strict=True):
        row[: len(line)] = line
    return result


# ------------------------------------------------------------------------------------ surface


class Snapper:
    """Attaches points to the nearest position on the outer skin or on the eyeballs."""

    def __init__(self, model: MorphableModel, mean: Array) -> None:
        self.mean, self.triangles = mean, model.triangles.numpy()
        self.outer = outer_triangles(model)
        self.balls = np.arange(
            model.triangle_parts["eyeball_left"][0], model.triangle_parts["eyeball_right"][1]
        )

    def skin(self, points: Array) -> tuple[NDArray[np.int64], Array]:
        """Return triangle and barycentric weights on the outer skin."""
        return self._on(self.outer, points)

    def eyeballs(self, points: Array) -> tuple[NDArray[np.int64], Array]:
        """Return triangle and barycentric weights on the eyeballs."""
        return self._on(self.balls, points)

    def _on(self, allowed: NDArray[np.int64], points: Array) -> tuple[NDArray[np.int64], Array]:
        surface = TriangleSurface(self.triangles[allowed], len(self.mean), neighbours=8)
        found = surface.closest(self.mean, points)
        return allowed[found.triangle_index], found.barycentric


def _points(
    vertices: Array, triangles: NDArray[np.int64], index: NDArray[np.int64], barycentric: Array
) -> Array:
    return (barycentric[..., None] * vertices[triangles[index]]).sum(1)


def _report(name: str, found: SurfaceLandmarks) -> str:
    middle, tail = np.nanpercentile(found.spread * 1e3, [50, 90])
    return f"{name}: spread of views {middle:.2f} mm median, {tail:.2f} mm 90th percentile"


# ------------------------------------------------------------------------------------- output


def write(tensors: dict[str, NDArray[np.generic]], output: Path, data: Path) -> None:
    """Write the asset and its card."""
    stored = {
        name: np.ascontiguousarray(
            value.astype(np.float32 if value.dtype.kind == "f" else np.int32)
        )
        for name, value in tensors.items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, output)
    ict = data / "models" / "ict_facekit_light.npz"
    licence = ict.with_name("ict_facekit_light.LICENSE").read_text(encoding="utf-8")
    card = {
        "name": "Landmarks of the default head",
        "version": "1",
        "description": "478 dense, 68 iBUG and 21 AFLW points on the default head, and the lines "
        "along which jaw points slide",
        "licence": "MIT",
        "attribution": "iBUG points carried over from ICT-FaceKit Light, Copyright (c) 2020 USC "
        "Institute for Creative Technologies; dense points found with MediaPipe's face mesh",
        "sources": [
            {
                "name": "ICT-FaceKit Light",
                "version": "1.0",
                "where": "github.com/ICT-VGL/ICT-FaceKit, FaceXModel",
                "sha256": hashlib.sha256(ict.read_bytes()).hexdigest(),
                "licence": "MIT",
                "licence_text": licence,
            }
        ],
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "built_by": "tools/build_landmarks.py",
        "used_at": "run time",
    }
    output.with_suffix(".card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def draw(model: MorphableModel, tensors: dict[str, NDArray[np.generic]], path: Path) -> None:
    """Draw all points on the mean face from three sides."""
    neutral = model.neutral()
    vertices = model.vertices(neutral)
    assert model.albedo is not None
    appearance = Appearance(texture=model.albedo.texture(neutral.albedo))
    solid = model.triangle_parts["lashes"][0]
    size = 900
    sheet = Image.new("RGB", (3 * size, 2 * size))
    for column, yaw in enumerate((0.0, 0.6, 1.3)):
        camera = head_camera(CENTRE, yaw_radians=yaw, image_size=size, width_metres=0.27)
        pixels = photograph(
            vertices,
            model.triangles[:solid],
            camera,
            appearance,
            model.uv,
            model.uv_triangles[:solid],
        )
        for row, names in enumerate((("dense478",), ("contours", "landmarks68_outline", "aflw21"))):
            picture = Image.fromarray(pixels)
            pen = ImageDraw.Draw(picture)
            for name in names:
                _draw_points(pen, name, model, vertices, camera, tensors)
            sheet.paste(picture, (column * size, row * size))
    sheet.save(path)


def _draw_points(
    pen: ImageDraw.ImageDraw,
    name: str,
    model: MorphableModel,
    vertices: torch.Tensor,
    camera: PerspectiveCamera,
    tensors: dict[str, NDArray[np.generic]],
) -> None:
    colours = {
        "dense478": "yellow",
        "contours": "blue",
        "landmarks68_outline": "red",
        "aflw21": "lime",
    }
    if name == "contours":
        rows = tensors[name]
        points = vertices[torch.from_numpy(rows[rows >= 0])]
        weight = np.ones(len(points))
    else:
        index = torch.from_numpy(tensors[f"{name}.triangle_index"])
        barycentric = torch.from_numpy(tensors[f"{name}.barycentric"]).float()
        points = (vertices[model.triangles[index]] * barycentric[..., None]).sum(1)
        weight = tensors[f"{name}.weight"]
    for number, (x, y, _) in enumerate(camera.project(points).tolist()):
        r = 1.5 if name == "contours" else 3
        colour = "orange" if weight[number] < 0.2 else colours[name]
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        if name in ("landmarks68_outline", "aflw21"):
            pen.text((x + 4, y - 5), str(number), fill=colour)


if __name__ == "__main__":
    main()
