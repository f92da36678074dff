"""A reconstruction as plain arrays: meshes, and maps in the photo's own pixels."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.rendering import render, sample_texture

_MEGAPIXELS_FOR_WHOLE_PHOTO = 4.0


def face_arrays(face: FaceReconstruction) -> dict[str, np.ndarray]:
    """Return meshes in metres and per-pixel maps.

    Maps cover the photo, or above four megapixels only the face's box; `offset` is (x, y) of their
    top left corner in photo pixels. Normals are +x right, +y up, +z to the viewer; albedo and
    shading are linear RGB; all are zero outside the head's mask.
    """
    model, camera = face.model, face.camera
    height, width = camera.image_size
    left, top, right, bottom = 0, 0, width, height
    vertices = face.mesh.vertices
    if height * width > _MEGAPIXELS_FOR_WHOLE_PHOTO * 1e6:
        points = camera.project(vertices)[:, :2]
        low, high = points.amin(0).floor().tolist(), points.amax(0).ceil().tolist()
        left, top = max(0, int(low[0])), max(0, int(low[1]))
        right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    view = camera.cropped(left, top, (bottom - top, right - left))
    drawn = render(face.mesh, view, texture=face.texture.albedo, light=face.light)
    landmarks = face.landmarks68()
    arrays = {
        "vertices_camera": camera.to_camera(vertices),
        "vertices_head": vertices,
        "vertices_neutral": model.vertices(face.neutral_coefficients),
        "triangles": model.triangles.int(),
        "face_vertices": model.regions["face"] > 0.5,
        "vertices_albedo": _vertex_colours(face),
        "landmarks68": camera.project(landmarks)[:, :2],
        "landmarks68_camera": camera.to_camera(landmarks),
        "normals": drawn.normals.permute(1, 2, 0),
        "mask": drawn.mask > 0,
        "depth": drawn.depth,
        "albedo": drawn.albedo.permute(1, 2, 0),
        "shading": (drawn.shading * drawn.mask).permute(1, 2, 0),
        "light_sh": face.light.coefficients,
    }
    if model.aflw21 is not None:
        points = model.aflw21.points(vertices, model.triangles)
        arrays["aflw21"] = camera.project(points)[:, :2]
    as_numpy = {name: np.ascontiguousarray(value.numpy()) for name, value in arrays.items()}
    return as_numpy | {"offset": np.array([left, top], np.float32)}


def _vertex_colours(face: FaceReconstruction) -> Float[Tensor, "V 3"]:
    """Return the texture at each vertex; on a seam, from one of its sides."""
    model = face.model
    uv = model.uv.new_zeros(len(model.mean), 2)
    uv[model.triangles.flatten()] = model.uv[model.uv_triangles.flatten()]
    return sample_texture(face.texture.albedo, uv.T[:, None])[:, 0].T
