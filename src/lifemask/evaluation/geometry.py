"""Geometry on other people's models and scans: what is registered to what, and by how much it misses.

Two targets. ICT-FaceKit's identities are in full correspondence with each other, so after one
registration of the head to ICT's mean every vertex of every identity has a known partner: the
vertex-to-vertex error sees sliding, which the closest-point error forgives. The James scan is a
real person outside every model.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable import MorphableModel
from lifemask.morphable.importers import ImportedModel, load_ict
from lifemask.morphable.importers.ict import NARROW_FACE
from lifemask.perception import FacePerception
from lifemask.registration import (
    DenseFitter,
    LandmarkPairs,
    LinearShape,
    Registration,
    RegistrationConfig,
    SurfacePoints,
    TriangleSurface,
    register,
    vertex_areas,
)
from lifemask.registration.surface_landmarks import (
    STABLE_SPREAD_METRES,
    Appearance,
    SurfaceLandmarks,
    ViewConfig,
    find_surface_landmarks,
    head_camera,
)
from lifemask.rendering import rasterize

Array = np.ndarray

ICT_SKIN_VERTICES = 11248
"""Face, head and neck come first in ICT's vertex order."""

_FACE_VIEWS = ((-45, 0), (-20, 10), (0, 0), (0, 20), (0, -25), (20, 10), (45, 0))
_HEAD_VIEWS = tuple((yaw, pitch) for yaw in range(-180, 180, 30) for pitch in (-40, 0, 40))
_SKIN_COLOUR = (0.55, 0.36, 0.28)
_IRIS_COLOUR = (0.12, 0.07, 0.04)
_SCLERA_COLOUR = (0.85, 0.85, 0.85)

# MediaPipe's face oval and lid rims, in walking order.
# fmt: off
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
_LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)


@dataclass(frozen=True)
class IctTarget:
    """ICT-FaceKit's skin and what of it counts."""

    mean: Float[Array, "N 3"]
    """Mean vertices, metres, head axes."""
    identity_basis: Float[Array, "I N 3"]
    """Modes, metres per standard deviation."""
    triangles: Int[Array, "T 3"]
    """Skin triangles."""
    normals: Float[Array, "N 3"]
    """Unit normals of the mean."""
    weights: Float[Array, "N"]
    """Area around each vertex of the mean, square metres."""
    face: Int[Array, "F"]
    """Vertices that are graded: the narrow face, seen from the front, without the eyes."""
    head: Int[Array, "H"]
    """Vertices of the outside of the head above the neck, the face among them."""
    landmarks68: Float[Array, "68 3"]
    """ICT's own iBUG points."""
    landmarks: SurfaceLandmarks
    """The dense points on the mean."""

    def identities(self, seed: int, count: int) -> Float[Array, "count I"]:
        """Return coefficients of random people; another seed draws other people."""
        return np.random.default_rng(seed).normal(size=(count, len(self.identity_basis)))


def ict_target(path: Path, perception: FacePerception) -> IctTarget:
    """Read ICT-FaceKit Light and find the dense points on its mean and some people of it."""
    model = load_ict(path)
    mean = model.mean[:ICT_SKIN_VERTICES]
    triangles = model.triangles[(model.triangles < ICT_SKIN_VERTICES).all(1)]
    basis = model.identity_basis[:, :ICT_SKIN_VERTICES].astype(np.float64)
    seen = visible_vertices(mean, triangles, _FACE_VIEWS)
    outside = visible_vertices(mean, triangles, _HEAD_VIEWS) | seen
    narrow = np.arange(len(mean)) < NARROW_FACE
    assert model.landmarks68 is not None
    landmarks68 = model.landmarks68.points(model.mean, model.triangles)
    neck = landmarks68[8, 1] + 0.01
    return IctTarget(
        mean=mean,
        identity_basis=basis,
        triangles=triangles,
        normals=_normals(mean, triangles),
        weights=vertex_areas(mean, triangles),
        face=np.flatnonzero(seen & narrow),
        head=np.flatnonzero(outside & ((mean[:, 1] > neck) | (seen & narrow))),
        landmarks68=landmarks68,
        landmarks=_ict_landmarks(model, perception),
    )


def _ict_landmarks(model: ImportedModel, perception: FacePerception) -> SurfaceLandmarks:
    mean = torch.from_numpy(model.mean).float()
    colours = torch.tensor(_SKIN_COLOUR).repeat(len(mean), 1)
    drawn = np.zeros(len(mean), bool)
    drawn[:ICT_SKIN_VERTICES] = True
    drawn |= (model.regions["gums_and_tongue"] + model.regions["teeth"]) > 0.5
    for side in ("eyeball_left", "eyeball_right"):
        inside = model.regions[side] > 0.5
        drawn |= inside
        ball = mean[torch.from_numpy(inside)]
        forward = torch.nn.functional.normalize(ball - ball.mean(0), dim=-1)[:, 2]
        iris = (forward > 0.86)[:, None]
        colours[torch.from_numpy(inside)] = torch.where(
            iris, torch.tensor(_IRIS_COLOUR), torch.tensor(_SCLERA_COLOUR)
        )
    triangles = torch.from_numpy(model.triangles[drawn[model.triangles].all(1)])
    skin = torch.nonzero((triangles < ICT_SKIN_VERTICES).all(1)).squeeze(1)
    generator = torch.Generator().manual_seed(3)
    basis = torch.from_numpy(model.identity_basis.astype(np.float32))
    shapes = [mean]
    for _ in range(3):
        coefficients = torch.randn(len(basis), generator=generator) * 0.6
        shapes.append(mean + torch.tensordot(coefficients, basis, dims=1))
    return find_surface_landmarks(
        perception,
        shapes,
        [Appearance(vertex_colours=colours)] * len(shapes),
        triangles,
        reference=mean,
        centre=torch.tensor([0.0, -0.03, 0.0]),
        landing=skin,
    )


@dataclass(frozen=True)
class ScanTarget:
    """A textured scan of one real face."""

    vertices: Float[Array, "N 3"]
    """Vertices in metres, in the scan's own axes (+Y up, +Z out of the face)."""
    triangles: Int[Array, "T 3"]
    """Its triangles."""
    normals: Float[Array, "N 3"]
    """Unit normals."""
    weights: Float[Array, "N"]
    """Area around each vertex, square metres."""
    face: Int[Array, "F"]
    """Vertices that are graded: inside the face's oval, turned to the front, without the eyes."""
    landmarks: SurfaceLandmarks
    """The dense points."""


def james_target(folder: Path, perception: FacePerception) -> ScanTarget:
    """Read the James scan (menpo3d, BSD-3) and find the dense points on it."""
    vertices, uv, triangles, uv_triangles = _read_scan(folder / "james.obj")
    points = json.loads((folder / "james.ljson").read_text(encoding="utf-8"))
    marked = np.array(points["groups"]["LJSON"]["landmarks"]["points"]) * 1e-3
    centre = torch.from_numpy(marked[48:60].mean(0)).float() + torch.tensor([0.0, 0.035, -0.045])
    picture = np.asarray(Image.open(folder / "james.jpg").convert("RGB"), dtype=np.float32) / 255
    texture = torch.from_numpy(picture**2.2).permute(2, 0, 1).contiguous()
    shape = torch.from_numpy(vertices).float()
    landmarks = find_surface_landmarks(
        perception,
        [shape],
        [Appearance(texture=texture)],
        torch.from_numpy(triangles),
        reference=shape,
        centre=centre,
        uv=torch.from_numpy(uv).float(),
        uv_triangles=torch.from_numpy(uv_triangles),
        views=ViewConfig(pitches_degrees=(-15, -5, 5, 15)),
    )
    normals = _normals(vertices, triangles)
    return ScanTarget(
        vertices=vertices,
        triangles=triangles,
        normals=normals,
        weights=vertex_areas(vertices, triangles),
        face=_inside_oval(vertices, normals, landmarks.position),
        landmarks=landmarks,
    )


def _inside_oval(vertices: Array, normals: Array, dense: Array) -> Int[Array, "F"]:
    """Return vertices inside the face's oval seen from the front, but not inside the lids."""
    inside = _in_polygon(vertices[:, :2], dense[list(_OVAL), :2])
    for lids in _LIDS:
        rim = dense[list(lids), :2]
        middle = rim.mean(0)
        inside &= ~_in_polygon(vertices[:, :2], middle + 1.15 * (rim - middle))
    near = vertices[:, 2] > np.nanmin(dense[[234, 454], 2]) - 0.01
    return np.flatnonzero(inside & near & (normals[:, 2] > 0.2))


def _in_polygon(points: Array, corners: Array) -> Array:
    """Return which points lie inside a closed polygon (even-odd rule)."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0))
    return inside


def _read_scan(path: Path) -> tuple[Array, Array, Array, Array]:
    """Return vertices (metres), uv (v down), triangles and uv triangles of an OBJ in millimetres."""
    rows: dict[str, list[list[str]]] = {"v": [], "vt": [], "f": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and words[0] in rows:
            rows[words[0]].append(words[1:])
    corners = np.array([[corner.split("/")[:2] for corner in row[:3]] for row in rows["f"]])
    uv = np.array([row[:2] for row in rows["vt"]], dtype=np.float64)
    uv[:, 1] = 1 - uv[:, 1]
    vertices = np.array([row[:3] for row in rows["v"]], dtype=np.float64) * 1e-3
    return vertices, uv, corners[..., 0].astype(np.int64) - 1, corners[..., 1].astype(np.int64) - 1


# ----------------------------------------------------------------------------- the head's side


def outer_triangles(model: MorphableModel) -> Int[Array, "O"]:
    """Return the indices of triangles of the outer skin: no sockets, mouth bag, eyeballs, teeth."""
    start, stop = model.triangle_parts["skin"]
    skin = model.regions["skin"].numpy() > 0.5
    triangles = model.triangles.numpy()
    index = np.arange(start, stop)
    return index[skin[triangles[start:stop]].all(1)]


def face_shape(model: MorphableModel) -> LinearShape:
    """Return the model's identity on its outer skin, ready for registration."""
    return LinearShape(
        mean=model.mean.double().numpy(),
        basis=model.identity_basis.double().numpy(),
        triangles=model.triangles.numpy()[outer_triangles(model)],
    )


def landmark_pairs(
    shape: LinearShape, own: SurfaceLandmarks, target: SurfaceLandmarks
) -> LandmarkPairs:
    """Return the dense points that are stable on both sides, without the irises."""
    spread = np.maximum(own.spread, target.spread)
    stable = spread < STABLE_SPREAD_METRES
    stable[468:] = False
    surface = TriangleSurface(shape.triangles, len(shape.mean))
    place = surface.closest(shape.mean, own.position[stable])
    return LandmarkPairs(
        triangle_index=place.triangle_index,
        barycentric=place.barycentric,
        target=target.position[stable],
        weight=np.exp(-((spread[stable] / STABLE_SPREAD_METRES) ** 2)),
        all_triangles=shape.triangles,
    )


# -------------------------------------------------------------------------------------- shared


def visible_vertices(
    vertices: Float[Array, "V 3"],
    triangles: Int[Array, "T 3"],
    views_degrees: tuple[tuple[float, float], ...],
) -> Array:
    """Return which vertices at least one of the views (yaw, pitch) sees."""
    points = torch.from_numpy(vertices).float()
    corners = torch.from_numpy(triangles)
    seen = torch.zeros(len(points), dtype=torch.bool)
    for yaw, pitch in views_degrees:
        camera = head_camera(
            torch.tensor([0.0, -0.03, 0.0]),
            yaw_radians=np.radians(yaw),
            pitch_radians=np.radians(pitch),
            image_size=800,
            width_metres=0.45,
        )
        projected = camera.project(points)
        depth = rasterize(projected, corners, camera.image_size).depth
        column = projected[:, 0].long().clamp(0, 799)
        row = projected[:, 1].long().clamp(0, 799)
        front = depth[row, column]
        seen |= (front > 0) & (projected[:, 2] < front + 0.0012)
    return seen.numpy()


def _normals(vertices: Array, triangles: Array) -> Array:
    return vertex_normals(torch.from_numpy(vertices), torch.from_numpy(triangles)).numpy()


# ------------------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Correspondence:
    """The head registered to ICT's mean: which point of the head is which ICT vertex."""

    vertices: Int[Array, "N"]
    """Graded ICT vertices."""
    weights: Float[Array, "N"]
    """Area around each."""
    surface: SurfacePoints
    """Their partners on the head."""
    registration: Registration
    """The head on ICT's mean."""


def correspond_to_ict(
    shape: LinearShape, own: SurfaceLandmarks, ict: IctTarget, *, iterations: int = 16
) -> Correspondence:
    """Register a head to ICT's mean by the dense landmarks, then by the whole face."""
    weights = ict.weights[ict.face]
    fitted = register(
        shape,
        ict.mean[ict.face],
        weights,
        landmarks=landmark_pairs(shape, own, ict.landmarks),
        normals=ict.normals[ict.face],
        config=RegistrationConfig(
            iterations=iterations, prior=2.0, landmark_weight=3.0, free_scale=False
        ),
    )
    return Correspondence(ict.face, weights, fitted.surface, fitted)


def vertex_errors(
    shape: LinearShape,
    correspondence: Correspondence,
    ict: IctTarget,
    people: Float[Array, "P I"],
    modes: tuple[int, ...],
) -> dict[int, float]:
    """Return the mean vertex-to-vertex distance in metres over people, by number of modes.

    Each person is fitted in fixed correspondence: rigid pose and identity, size kept.
    """
    chosen = correspondence.vertices
    corners = shape.triangles[correspondence.surface.triangle_index]
    barycentric = correspondence.surface.barycentric
    mean = np.einsum("nc,ncd->nd", barycentric, shape.mean[corners])
    basis = np.einsum("nc,knc...->kn...", barycentric, shape.basis[:, corners])
    offsets = np.tensordot(people, ict.identity_basis[:, chosen], axes=1)
    result: dict[int, float] = {}
    for count in modes:
        fitter = DenseFitter(mean, basis[:count], correspondence.weights)
        distances = [fitter.fit(ict.mean[chosen] + offset).distance for offset in offsets]
        result[count] = float(np.average(np.mean(distances, 0), weights=correspondence.weights))
    return result


def closest_point_error(
    shape: LinearShape,
    correspondence: Correspondence,
    ict: IctTarget,
    people: Float[Array, "P I"],
    *,
    iterations: int = 6,
) -> float:
    """Return the mean distance in metres of people's vertices to the fitted head's surface.

    Flatters: the surface may slide under the vertices.
    """
    surface = TriangleSurface(shape.triangles, len(shape.mean), neighbours=4)
    config = RegistrationConfig(iterations=iterations, prior=1.0, free_scale=False)
    chosen, errors = correspondence.vertices, []
    for offset in np.tensordot(people, ict.identity_basis[:, chosen], axes=1):
        start = (
            1.0,
            correspondence.registration.rotation,
            correspondence.registration.translation,
        )
        fitted = register(
            shape,
            ict.mean[chosen] + offset,
            correspondence.weights,
            start=start,
            surface=surface,
            config=config,
        )
        errors.append(fitted.surface_error(correspondence.weights))
    return float(np.mean(errors))


def scan_registration(
    shape: LinearShape, own: SurfaceLandmarks, scan: ScanTarget
) -> tuple[Registration, float]:
    """Return the head fitted to a scan, size free, and the mean distance of its face, metres."""
    weights = scan.weights[scan.face]
    fitted = register(
        shape,
        scan.vertices[scan.face],
        weights,
        landmarks=landmark_pairs(shape, own, scan.landmarks),
        normals=scan.normals[scan.face],
        config=RegistrationConfig(iterations=20, prior=0.5),
    )
    return fitted, fitted.surface_error(weights)


def ibug_errors(
    model: MorphableModel, correspondence: Correspondence, ict: IctTarget
) -> Float[Array, "68"]:
    """Return the distance of the head's iBUG points, on ICT's mean, to ICT's own, metres."""
    embedding = model.landmarks68
    if embedding is None:
        raise ValueError("This model has no 68 landmarks: build them first.")
    vertices = torch.from_numpy(correspondence.registration.vertices).float()
    points = embedding.points(vertices, model.triangles).double().numpy()
    return np.linalg.norm(points - ict.landmarks68, axis=1)


def dense_landmarks(model: MorphableModel) -> SurfaceLandmarks:
    """Return the dense points that ship with the head; their weights tell how stable they are."""
    embedding = model.dense478
    if embedding is None:
        raise ValueError("This model has no dense landmarks: build them first.")
    position = embedding.points(model.mean, model.triangles).double().numpy()
    weight = embedding.weight.double().numpy().clip(1e-3, 1)
    spread = STABLE_SPREAD_METRES * np.sqrt(-np.log(weight))
    # The weight of a point that was filled in says nothing about where the views saw it.
    spread[weight <= 0.3] = np.inf
    return SurfaceLandmarks(position, spread, np.ones(len(weight), np.int64))
