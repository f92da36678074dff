"""The James scan as a target: a textured scan of a real person who is in no model."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from lifemask.evaluation.polygons import inside_polygon
from lifemask.geometry.meshes import vertex_normals
from lifemask.perception import FacePerception
from lifemask.perception.correspondences import FACE_OVAL
from lifemask.registration import vertex_areas
from lifemask.registration.surface_landmarks import (
    Appearance,
    SurfaceLandmarks,
    ViewConfig,
    find_surface_landmarks,
)

Array = np.ndarray

# MediaPipe's lid rims, in order along the line.
_LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)


@dataclass(frozen=True)
class ScanTarget:
    """A textured scan of one real face."""

    vertices: Float[Array, "N 3"]
    """Vertices in metres, in the scan's own axes (+Y up, +Z out of the face)."""
    triangles: Int[Array, "T 3"]
    """Vertex indices."""
    normals: Float[Array, "N 3"]
    """Unit normals."""
    weights: Float[Array, "N"]
    """Area around each vertex, square metres."""
    face: Int[Array, "F"]
    """Vertices that are measured: inside the face's oval, facing the front, without the eyes."""
    landmarks: SurfaceLandmarks
    """The dense landmarks."""


def james_target(folder: Path, perception: FacePerception) -> ScanTarget:
    """Read the James scan (menpo3d, BSD-3) and find the dense landmarks on it."""
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
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(triangles)).numpy()
    return ScanTarget(
        vertices=vertices,
        triangles=triangles,
        normals=normals,
        weights=vertex_areas(vertices, triangles),
        face=_inside_oval(vertices, normals, landmarks.position),
        landmarks=landmarks,
    )


def _inside_oval(
    vertices: Float[Array, "N 3"], normals: Float[Array, "N 3"], dense: Float[Array, "478 3"]
) -> Int[Array, "F"]:
    """Return vertices that are, from the front, inside the face's oval but not inside the lids."""
    inside = inside_polygon(vertices[:, :2], dense[list(FACE_OVAL), :2])
    for lids in _LIDS:
        rim = dense[list(lids), :2]
        middle = rim.mean(0)
        inside &= ~inside_polygon(vertices[:, :2], middle + 1.15 * (rim - middle))
    near = vertices[:, 2] > np.nanmin(dense[[234, 454], 2]) - 0.01
    return np.flatnonzero(inside & near & (normals[:, 2] > 0.2))


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
