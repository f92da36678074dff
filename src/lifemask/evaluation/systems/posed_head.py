"""A posed head as the arrays that benchmarks read: its mesh, points, normals and depth."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.predictions import Prediction
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.systems.pictures import opaque_triangles

POINTS = ("landmarks68", "landmarks68_camera", "aflw21")
"""Fields for which nothing is drawn."""


@torch.no_grad()
def posed_head_prediction(
    model: MorphableModel,
    vertices: Float[Tensor, "V 3"],
    camera: PerspectiveCamera,
    *,
    neutral: Float[Tensor, "V 3"],
    landmarks68: Float[Tensor, "68 3"],
    fields: tuple[str, ...] | None = None,
) -> Prediction:
    """Return the prediction of a head whose vertices and camera are known.

    Args:
        model: the head; on the CPU, as everything here.
        vertices: of the face in the photo, head space, metres.
        camera: in the photo's pixels.
        neutral: the same person's vertices without expression, head space, metres.
        landmarks68: iBUG points in head space: fixed on the skin, or on the outline that the camera
            sees (`visible_landmarks68`).
        fields: what will be read; where that is landmarks alone, nothing is drawn. None: all.

    Raises:
        EvaluationError: the head has no 21 AFLW landmarks.
    """
    if model.aflw21 is None:
        raise EvaluationError(
            "The head has no 21 AFLW landmarks, so it cannot be evaluated. Use the default head."
        )
    triangles = model.triangles
    aflw21 = model.aflw21.points(vertices, triangles)
    points = {
        "landmarks68": camera.project(landmarks68)[:, :2].numpy(),
        "landmarks68_camera": camera.to_camera(landmarks68).numpy(),
        "aflw21": camera.project(aflw21)[:, :2].numpy(),
    }
    if fields is not None and set(POINTS).issuperset(fields):
        return Prediction(**points)
    opaque = triangles[opaque_triangles(model)]
    in_camera = camera.to_camera(vertices)
    fragments = rasterize(camera.project(vertices), opaque, camera.image_size)
    normals = light_axes_from_camera(vertex_normals(in_camera, triangles))
    normal_map = torch.nn.functional.normalize(interpolate(normals, opaque, fragments), dim=0)
    return Prediction(
        **points,
        vertices_camera=in_camera.numpy(),
        vertices_head=vertices.numpy(),
        vertices_neutral=neutral.numpy(),
        triangles=triangles.numpy(),
        face_vertices=(model.regions["face"] > 0.5).numpy(),
        normals=normal_map.permute(1, 2, 0).numpy(),
        mask=fragments.mask.numpy(),
        depth=fragments.depth.numpy(),
    )
