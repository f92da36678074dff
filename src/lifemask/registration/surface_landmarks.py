"""Dense landmarks of a textured mesh: it is drawn from several sides, points are projected back.

The landmark network needs images. Every view gives a position on the mesh for each of the 478
points. Views that show the surface of a point at a slant, or only beside an edge, have a low
weight, and the weighted geometric median over views removes the other outliers.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.morphable.assets import load_asset
from lifemask.perception import FacePerception
from lifemask.perception.observation import FaceDetection
from lifemask.rendering import rasterize, render

DENSE_POINTS = 478
STABLE_SPREAD_METRES = 0.0035
"""Dense points whose positions differ more between views are not used as landmarks."""

_BACKGROUND = 0.35
_DISTANCE_METRES = 1.2


@dataclass(frozen=True)
class SurfaceLandmarks:
    """Positions of the 478 dense points on a mesh."""

    position: Float[np.ndarray, "478 3"]
    """Metres, on the reference vertices; NaN if no view shows the point."""
    spread: Float[np.ndarray, "478"]
    """Mean distance of the views' positions to `position`, metres; NaN if no view shows it."""
    views: Int[np.ndarray, "478"]
    """Number of views that show the point."""


@dataclass(frozen=True)
class Appearance:
    """The colours of a mesh: give one of the two."""

    texture: Float[Tensor, "3 R S"] | None = None
    """Linear RGB texture."""
    vertex_colours: Float[Tensor, "V 3"] | None = None
    """Linear RGB per vertex."""


@dataclass(frozen=True)
class ViewConfig:
    """Views from which the mesh is drawn."""

    yaws_degrees: tuple[float, ...] = (-40, -20, 0, 20, 40)
    """Rotations of the head about +Y."""
    pitches_degrees: tuple[float, ...] = (-12, 3, 18)
    """Rotations of the head about +X; positive is down."""
    image_size: int = 512
    """Side of the square images, pixels."""
    width_metres: float = 0.33
    """Width of the scene in the plane through the centre."""
    minimum_cosine: float = 0.35
    """Positions whose cosine between normal and view is smaller are left out."""


def head_camera(
    centre: Float[Tensor, "3"],
    *,
    yaw_radians: float = 0.0,
    pitch_radians: float = 0.0,
    image_size: int = 512,
    width_metres: float = 0.33,
    distance_metres: float = _DISTANCE_METRES,
) -> PerspectiveCamera:
    """Return a camera that points at `centre`; the head is rotated by yaw and pitch.

    Args:
        centre: metres, head axes.
        yaw_radians: rotation of the head about +Y.
        pitch_radians: rotation of the head about +X; positive is down.
        image_size: side of the square image, pixels.
        width_metres: width of the scene in the plane through the centre.
        distance_metres: from the camera to the centre.
    """
    head_rotation = matrix_from_yaw_pitch_roll(
        torch.tensor(float(yaw_radians)), torch.tensor(float(pitch_radians)), torch.tensor(0.0)
    )
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ head_rotation
    translation = torch.tensor([0.0, 0.0, distance_metres]) - rotation @ centre.float()
    return PerspectiveCamera(
        focal_pixels=torch.tensor(image_size * distance_metres / width_metres),
        principal_point=torch.full((2,), image_size / 2),
        world_to_camera=rigid_transform(rotation, translation),
        image_size=(image_size, image_size),
    )


def find_surface_landmarks(
    perception: FacePerception,
    shapes: Sequence[Float[Tensor, "V 3"]],
    appearances: Sequence[Appearance],
    triangles: Int[Tensor, "T 3"],
    *,
    reference: Float[Tensor, "V 3"],
    centre: Float[Tensor, "3"],
    landing: Int[Tensor, "L"] | None = None,
    uv: Float[Tensor, "U 2"] | None = None,
    uv_triangles: Int[Tensor, "T 3"] | None = None,
    views: ViewConfig | None = None,
) -> SurfaceLandmarks:
    """Return the positions of the dense points, over shapes that share one topology.

    Args:
        perception: the networks.
        shapes: vertices in metres, head axes.
        appearances: one for each shape.
        triangles: vertex indices, for all shapes.
        reference: vertices on which the positions are averaged, for instance the mean face.
        centre: target of the cameras, metres.
        landing: indices of the triangles on which a point may lie; default all. Points of the iris
            may lie on any triangle.
        uv: texture coordinates, if an appearance has a texture.
        uv_triangles: indices into `uv`.
        views: the cameras' directions, size and limits.
    """
    views = views or ViewConfig()
    allowed = torch.ones(len(triangles), dtype=torch.bool)
    if landing is not None:
        allowed[:] = False
        allowed[landing] = True
    positions: list[list[Tensor]] = [[] for _ in range(DENSE_POINTS)]
    for vertices, appearance in zip(shapes, appearances, strict=True):
        normals = vertex_normals(vertices, triangles)
        surface = _Surface(vertices, normals, triangles, reference, allowed)
        for yaw in views.yaws_degrees:
            for pitch in views.pitches_degrees:
                camera = head_camera(
                    centre,
                    yaw_radians=math.radians(yaw),
                    pitch_radians=math.radians(pitch),
                    image_size=views.image_size,
                    width_metres=views.width_metres,
                )
                pixels = photograph(vertices, triangles, camera, appearance, uv, uv_triangles)
                detections = perception.detect(pixels)
                if not detections:
                    continue
                points = _observe(perception, pixels, detections[0])
                for number, position in _on_surface(points, surface, camera, views.minimum_cosine):
                    positions[number].append(position)
    return _summary(positions)


def photograph(
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
    camera: PerspectiveCamera,
    appearance: Appearance,
    uv: Float[Tensor, "U 2"] | None = None,
    uv_triangles: Int[Tensor, "T 3"] | None = None,
) -> np.ndarray:
    """Return an sRGB picture (H, W, 3) uint8 of a mesh under soft light from the front."""
    light = SphericalHarmonicsLight.from_direction(0.25, 0.35, strength=0.55, ambient=0.5)
    drawn = render(
        Mesh(vertices, triangles, uv, uv_triangles),
        camera,
        texture=appearance.texture,
        vertex_colours=appearance.vertex_colours,
        light=light,
    )
    linear = drawn.colour + _BACKGROUND * (1 - drawn.mask)
    encoded = linear.clamp(0, 1) ** (1 / 2.2)
    return (encoded * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _observe(perception: FacePerception, pixels: np.ndarray, detection: FaceDetection) -> Tensor:
    observation = perception.observe(pixels, detection, quality="fast", segment=False, embed=False)
    return observation.landmarks478[:, :2]


@dataclass(frozen=True)
class _Surface:
    """A shape on which landmarks are located."""

    vertices: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    triangles: Int[Tensor, "T 3"]
    reference: Float[Tensor, "V 3"]
    """Vertices for the returned positions."""
    allowed: Bool[Tensor, "T"]
    """Triangles on which a point may lie."""


def _on_surface(
    points: Float[Tensor, "N 2"],
    surface: _Surface,
    camera: PerspectiveCamera,
    minimum_cosine: float,
) -> Iterator[tuple[int, Float[Tensor, "4"]]]:
    """Yield number and (x, y, z on the reference, weight) of points that the view shows well."""
    triangles = surface.triangles
    fragments = rasterize(camera.project(surface.vertices), triangles, camera.image_size)
    index = fragments.triangle_index
    height, width = camera.image_size
    to_eye = camera.world_to_camera[:3, :3]
    for number, (x, y) in enumerate(points.tolist()):
        column, row = math.floor(x), math.floor(y)
        if not (2 <= column < width - 2 and 2 <= row < height - 2):
            continue
        # Use the pixel or, if it is empty, its nearest neighbour: lids and lips are thin.
        window = index[row - 1 : row + 2, column - 1 : column + 2]
        good = (window >= 0) & surface.allowed[window.clamp(min=0)]
        if not good.any():
            continue
        offset = torch.tensor([-1.0, 0.0, 1.0])
        far = (offset[:, None] + row + 0.5 - y) ** 2 + (offset[None] + column + 0.5 - x) ** 2
        best = int(torch.where(good, far, torch.inf).argmin())
        i, j = row - 1 + best // 3, column - 1 + best % 3
        corners = triangles[index[i, j]]
        weights = fragments.barycentric[i, j]
        normal = to_eye @ (weights @ surface.normals[corners])
        cosine = float(-normal[2] / normal.norm().clamp(min=1e-9))
        if cosine < minimum_cosine:
            continue
        slip = float(torch.where(good, far, torch.inf).min())
        position = weights @ surface.reference[corners]
        yield number, torch.cat([position, torch.tensor([cosine**3 / (1 + slip)])])


def _summary(positions: list[list[Tensor]]) -> SurfaceLandmarks:
    position = np.full((len(positions), 3), np.nan)
    spread = np.full(len(positions), np.nan)
    count = np.array([len(found) for found in positions])
    for number, found in enumerate(positions):
        if not found:
            continue
        table = torch.stack(found).double().numpy()
        points, weight = table[:, :3], table[:, 3]
        middle = geometric_median(points, weight)
        position[number] = middle
        spread[number] = np.average(np.linalg.norm(points - middle, axis=1), weights=weight)
    return SurfaceLandmarks(position, spread, count)


def complete_landmarks(found: SurfaceLandmarks) -> tuple[np.ndarray, np.ndarray]:
    """Return all dense points (478, 3) of a symmetric head and their weights (478,), 0 to 1.

    Points that differ between views or sides are replaced by a thin-plate warp of the network's
    canonical mesh. Irises stay at zero, because they belong to the eyeballs.
    """
    topology = load_asset("perception/face_mesh_topology")
    mirror = np.asarray(topology["mirror"]).astype(np.int64)
    canonical = np.asarray(topology["canonical_vertices"]).astype(np.float64)
    flipped = found.position[mirror] * [-1, 1, 1]
    disagreement = np.linalg.norm(found.position - flipped, axis=1) / 2
    spread = np.maximum(found.spread, found.spread[mirror])
    spread = np.nan_to_num(np.hypot(spread, disagreement), nan=1.0)
    known = np.flatnonzero(spread[:468] < STABLE_SPREAD_METRES)
    symmetrised = (found.position + flipped) / 2
    warp = RBFInterpolator(
        canonical[known], symmetrised[known], kernel="thin_plate_spline", smoothing=1e-6
    )
    dense = np.zeros((DENSE_POINTS, 3))
    dense[:468] = warp(canonical)
    dense[known] = symmetrised[known]
    dense = (dense + dense[mirror] * [-1, 1, 1]) / 2
    # Replaced points inside the face are exact to a few millimetres; those on its outline slide.
    weight = np.where(spread < 2.5 * STABLE_SPREAD_METRES, 0.3, 0.1)
    weight[known] = np.maximum(0.3, np.exp(-((spread[known] / STABLE_SPREAD_METRES) ** 2)))
    return dense, weight


def geometric_median(
    points: Float[np.ndarray, "N 3"], weights: Float[np.ndarray, "N"], *, iterations: int = 40
) -> Float[np.ndarray, "3"]:
    """Return the point with the smallest weighted sum of distances to points (Weiszfeld, 1937)."""
    middle = np.average(points, axis=0, weights=weights)
    for _ in range(iterations):
        distance = np.linalg.norm(points - middle, axis=1) + 1e-6
        middle = np.average(points, axis=0, weights=weights / distance)
    return middle
