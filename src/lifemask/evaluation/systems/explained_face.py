"""An explained face as arrays for benchmarks: its mesh, points, normals, depth and colours."""

from dataclasses import replace

import torch

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.predictions import Prediction
from lifemask.morphable.contour import fixed_landmarks68, outline_landmarks68
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.head_surface import vertex_uv
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.heads import HeadSurface, head_surface, head_vertices, render_head
from lifemask.rendering.image_normals import normals_at_pixels
from lifemask.rendering.texture import sample_texture

POINTS = (
    *("landmarks68", "landmarks68_camera", "landmarks68_outline", "landmarks68_outline_camera"),
    "aflw21",
)
"""Fields that need no drawing."""

SHAPE = (
    *POINTS,
    *("vertices_camera", "vertices_head", "vertices_neutral", "triangles", "face_vertices"),
    *("normals", "normals_coarse", "mask", "depth"),
)
"""Fields without colour and light."""


@torch.no_grad()
def face_prediction(
    model: MorphableModel,
    face: ExplainedFace,
    *,
    fields: tuple[str, ...] | None = None,
) -> Prediction:
    """Return one explained face as arrays.

    Args:
        model: the head of the face; on the CPU, like all tensors here.
        face: the face, in the photo's pixels.
        fields: the fields to return; if they are only landmarks, nothing is drawn. None: all.

    Raises:
        EvaluationError: the head has no 68 or no 21 landmarks.
    """
    if model.aflw21 is None or model.landmarks68 is None:
        raise EvaluationError(
            "The head has no 68 or no 21 landmarks, so it cannot be evaluated. Use the default head."
        )
    camera, triangles = face.camera, model.triangles
    vertices = head_vertices(model, face)
    fixed = fixed_landmarks68(model, vertices)
    outline = outline_landmarks68(model, vertices, camera)
    aflw21 = model.aflw21.points(vertices, triangles)
    points = {
        "landmarks68": camera.project(fixed)[:, :2].numpy(),
        "landmarks68_camera": camera.to_camera(fixed).numpy(),
        "landmarks68_outline": camera.project(outline)[:, :2].numpy(),
        "landmarks68_outline_camera": camera.to_camera(outline).numpy(),
        "aflw21": camera.project(aflw21)[:, :2].numpy(),
    }
    if fields is not None and set(POINTS).issuperset(fields):
        return Prediction(**points)
    surface = head_surface(model, face)
    refined = None
    if face.normals is not None:
        refined = normals_at_pixels(face.normals, camera.image_size)
    images = render_head(surface, camera, face.light, depth=face.depth, normals=refined)
    drawn = images.fine
    neutral = replace(model.neutral(), identity=face.coefficients.identity)
    return Prediction(
        **points,
        vertices_camera=camera.to_camera(vertices).numpy(),
        vertices_head=vertices.numpy(),
        vertices_neutral=head_vertices(model, face, neutral).numpy(),
        triangles=triangles.numpy(),
        face_vertices=(model.regions["face"] > 0.5).numpy(),
        vertices_albedo=_vertex_albedo(model, surface),
        normals=drawn.normals.permute(1, 2, 0).numpy(),
        normals_coarse=(images.coarse_normals * drawn.mask).permute(1, 2, 0).numpy(),
        mask=(drawn.mask > 0).numpy(),
        depth=drawn.depth.numpy(),
        albedo=drawn.albedo.permute(1, 2, 0).numpy(),
        shading=(drawn.shading * drawn.mask).permute(1, 2, 0).numpy(),
        light_sh=face.light.coefficients.numpy(),
    )


def _vertex_albedo(model: MorphableModel, surface: HeadSurface):
    if surface.texture is None:
        return None
    return sample_texture(surface.texture, vertex_uv(model).T[:, None])[:, 0].T.numpy()
