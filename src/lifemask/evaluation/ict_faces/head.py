"""ICT-FaceKit's head for test photos: parts, rotating eyes, hairline, shadows."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from lifemask.evaluation.config import EvaluationError
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.importers import ImportedModel, ModelFileError, load_ict
from lifemask.morphable.importers.ict import VERTEX_COUNT, VERTEX_RANGES
from lifemask.rendering.rasterization import rasterize

Array = np.ndarray

FACE = VERTEX_RANGES["face"][1]
"""Number of vertices of the face, which come first."""
SKIN = VERTEX_RANGES["head_and_neck"][1]
"""Number of vertices of face, head and neck."""

_TEXTURED = ("face", "head_and_neck", "mouth_bag", "eye_socket_left", "eye_socket_right")
_COLOURED = ("gums_and_tongue", "teeth", "eyeball_left", "eyeball_right")

# Height of the hairline (y) along the side of the mean head (z), metres.
_HAIRLINE_Z = (-0.16, -0.13, -0.105, -0.085, -0.068, -0.05, -0.03, 0.0)
_HAIRLINE_Y = (-0.10, -0.075, -0.02, 0.026, 0.0, 0.022, 0.055, 0.068)


# Heads are compared by identity, because comparing arrays gives no single truth value.
@dataclass(frozen=True, eq=False)
class IctHead:
    """The data that all test people share."""

    model: ImportedModel
    """Mean, modes and expressions; metres, head axes."""
    triangles: Int[Array, "T 3"]
    """The triangles that are drawn: no lashes, tear films or other transparent parts."""
    uv: Float[Array, "U 2"]
    """Texture coordinates of skin, mouth and sockets in [0, 1], v down."""
    uv_triangles: Int[Array, "T 3"]
    """Indices into `uv`, one per corner."""
    textured: Bool[Array, "T"]
    """Whether a triangle's colour comes from the texture (else from its vertices)."""
    skin_triangles: Int[Array, "S 3"]
    """Triangles of face, head and neck."""
    eyeballs: tuple[Int[Array, "L"], Int[Array, "R"]]
    """Vertices of the subject's left and right eyeball."""
    eye_centres: Float[Array, "2 3"]
    """Their centres on the mean head, metres."""
    hairline: Float[Array, "N"]
    """Distance of each skin vertex of the mean above the hairline, metres; negative is skin."""
    hair_margin: Float[Array, "N"]
    """Distance of each skin vertex of the mean from skin without hair, metres; 0 on that skin."""
    sky_visibility: Float[Array, "V"]
    """Share of the sky whose light reaches a vertex of the mean head, cosine-weighted, in [0, 1]."""

    @property
    def landmarks(self) -> Int[Array, "68"]:
        """ICT's own iBUG vertices."""
        assert self.model.landmarks68 is not None
        corner = self.model.landmarks68.barycentric.argmax(1)
        index = self.model.landmarks68.triangle_index
        return self.model.triangles[index, corner]

    def vertices(
        self,
        identity: Float[Array, "I"],
        expression: Float[Array, "E"],
        gaze: Float[Array, "2"],
    ) -> Float[Array, "V 3"]:
        """Return the head, metres, head axes.

        Args:
            identity: standard deviations.
            expression: weights 0 to 1 in the model's order.
            gaze: (yaw towards +X, pitch up) of both eyes, radians.
        """
        model = self.model
        shape = model.mean + np.tensordot(identity, model.identity_basis, axes=1)
        shape = shape + np.tensordot(expression, model.expression_basis, axes=1)
        yaw, pitch = gaze
        turn_yaw = np.array(
            [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        )
        turn_pitch = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        for ball in self.eyeballs:
            centre = shape[ball].mean(0)
            shape[ball] = (shape[ball] - centre) @ (turn_yaw @ turn_pitch).T + centre
        return shape


@lru_cache(maxsize=2)
def load_head(path: Path) -> IctHead:
    """Read ICT-FaceKit Light (a release folder or the repacked .npz) and prepare it.

    Raises:
        EvaluationError: the model is missing, damaged, or not the whole head.
    """
    try:
        model = load_ict(path)
    except (OSError, ModelFileError) as error:
        raise EvaluationError(
            f"The independent test faces need ICT-FaceKit Light at {path}: {error}"
        ) from error
    if len(model.mean) != VERTEX_COUNT:
        raise EvaluationError(
            f"{path} has {len(model.mean)} vertices; ICT-FaceKit Light has {VERTEX_COUNT}. "
            "Name a complete data folder with --data."
        )
    assert model.uv is not None
    assert model.uv_triangles is not None
    textured = _whole(model.triangles, *(VERTEX_RANGES[name] for name in _TEXTURED))
    coloured = _whole(model.triangles, *(VERTEX_RANGES[name] for name in _COLOURED))
    drawn = textured | coloured
    # The skin has two tiles side by side; v is flipped within the first row of tiles.
    uv = model.uv * [0.5, 1.0]
    sides = [VERTEX_RANGES["eyeball_left"], VERTEX_RANGES["eyeball_right"]]
    balls = [np.arange(*span) for span in sides]
    balls.sort(key=lambda ball: -model.mean[ball, 0].mean())
    triangles = model.triangles[drawn]
    skin = model.mean[:SKIN]
    hairline = _hairline(skin)
    bare = KDTree(skin[hairline <= 0])
    return IctHead(
        model=model,
        triangles=triangles,
        uv=uv,
        uv_triangles=np.where(textured[drawn, None], model.uv_triangles[drawn], 0),
        textured=textured[drawn],
        skin_triangles=model.triangles[(model.triangles < SKIN).all(1)],
        eyeballs=(balls[0], balls[1]),
        eye_centres=np.stack([model.mean[ball].mean(0) for ball in balls]),
        hairline=hairline,
        hair_margin=np.asarray(bare.query(skin)[0]),
        sky_visibility=_sky_visibility(model.mean, triangles),
    )


def _whole(triangles: Array, *spans: tuple[int, int]) -> Bool[Array, "T"]:
    """Return which triangles have all corners in the union of vertex ranges."""
    inside = np.zeros(VERTEX_COUNT, bool)
    for start, stop in spans:
        inside[start:stop] = True
    return np.asarray(inside[triangles].all(1))


def _hairline(points: Float[Array, "N 3"]) -> Float[Array, "N"]:
    above = points[:, 1] - np.interp(points[:, 2], _HAIRLINE_Z, _HAIRLINE_Y)
    # The ears lie farther from the middle and have no hair.
    ear = (np.abs(points[:, 0]) > 0.079) & (points[:, 1] < 0.03) & (points[:, 1] > -0.07)
    return np.where(ear, -0.02, above)


def _sky_visibility(
    vertices: Float[Array, "V 3"], triangles: Int[Array, "T 3"]
) -> Float[Array, "V"]:
    """Return the share of a uniform sky's light that reaches each vertex, from 60 directions."""
    count, size = 60, 256
    k = np.arange(count) + 0.5
    height, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    directions = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], axis=-1)
    points, corners = torch.from_numpy(vertices).float(), torch.from_numpy(triangles)
    normals = vertex_normals(points, corners).numpy()
    seen, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in directions:
        cosine = np.maximum(normals @ direction, 0)
        lit = light_reaches(vertices, triangles, vertices, direction, size=size)
        seen += cosine * lit
        total += cosine
    return np.where(total > 0, seen / np.maximum(total, 1e-9), 0.0)


def light_reaches(
    vertices: Float[Array, "V 3"],
    triangles: Int[Array, "T 3"],
    points: Float[Array, "P 3"],
    direction: Float[Array, "3"],
    *,
    size: int = 512,
    bias_metres: float = 0.003,
) -> Float[Array, "P"]:
    """Return the share of a distant lamp's light that a mesh lets pass to points, by a shadow map.

    Williams, "Casting curved shadows on curved surfaces", 1978, with the edge softened over
    3 x 3 pixels. The share is 0 to 1.

    Args:
        vertices: the mesh that casts shadows, any axes, metres.
        triangles: both sides cast shadows.
        points: points in the same axes.
        direction: unit vector towards the lamp.
        size: pixels along each side of the map.
        bias_metres: distance behind the first surface up to which a point counts as lit.
    """
    across = np.cross(direction, [0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(direction, across), direction])
    turned = vertices @ axes.T
    low, high = turned.min(0), turned.max(0)
    scale = (size - 4) / max(high[0] - low[0], high[1] - low[1])
    distant = 100.0  # So far that perspective does not matter for depth interpolation.

    def on_map(p: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
        xy = (p[:, :2] - low[:2]) * scale + 2
        return np.concatenate([xy, distant - p[:, 2:]], axis=1)

    projected = torch.from_numpy(on_map(turned)).float()
    fragments = rasterize(projected, torch.from_numpy(triangles), (size, size), cull="none")
    depth = torch.where(fragments.mask, fragments.depth, torch.inf).numpy()
    asked = on_map(points @ axes.T)
    column, row = asked[:, 0].astype(np.int64), asked[:, 1].astype(np.int64)
    lit = np.zeros(len(points))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            nearest = depth[np.clip(row + dy, 0, size - 1), np.clip(column + dx, 0, size - 1)]
            lit += asked[:, 2] < nearest + bias_metres
    return lit / 9
