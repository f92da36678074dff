"""The head's textures at the pixels of a prediction: its camera, texture coordinates and scale."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lifemask.evaluation.predictions import Prediction
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.rendering.texture import sample_texture


def camera_of_prediction(
    prediction: Prediction, image_size: tuple[int, int]
) -> PerspectiveCamera | None:
    """Return the camera that projects a prediction's 3D landmarks to its 2D landmarks.

    Least squares gives focal length and principal point; the camera's world space is camera space.
    The result is None if neither the fixed points nor those on the outline are present in both.
    """
    pairs = (
        (prediction.landmarks68, prediction.landmarks68_camera),
        (prediction.landmarks68_outline, prediction.landmarks68_outline_camera),
    )
    for seen, points in pairs:
        if seen is not None and points is not None:
            return _camera(seen.astype(np.float64), points.astype(np.float64), image_size)
    return None


def _camera(
    seen: Float[np.ndarray, "N 2"], points: Float[np.ndarray, "N 3"], image_size: tuple[int, int]
) -> PerspectiveCamera:
    slopes = points[:, :2] / points[:, 2:]
    rows = np.zeros((2 * len(points), 3))
    rows[0::2, 0], rows[1::2, 0] = slopes[:, 0], slopes[:, 1]
    rows[0::2, 1] = rows[1::2, 2] = 1
    focal, x, y = np.linalg.lstsq(rows, seen.reshape(-1), rcond=None)[0]
    return PerspectiveCamera(
        torch.tensor(focal, dtype=torch.float32),
        torch.tensor([x, y], dtype=torch.float32),
        torch.eye(4),
        image_size,
    )


@dataclass(frozen=True)
class AlbedoOnPhoto:
    """The albedo model on a prediction's mesh, in a reduced image of the face."""

    mean_log: Float[np.ndarray, "h w 3"]
    """Mean log albedo."""
    basis_log: Float[np.ndarray, "A h w 3"]
    """Modes of the log albedo."""
    covered: Bool[np.ndarray, "h w"]
    """The pixels of the mesh."""
    corner: tuple[int, int]
    """Photo pixel (x, y) of the top left corner of the reduced image."""
    step: int
    """Photo pixels per pixel of the reduced image."""
    millimetres_per_pixel: float
    """Size of one pixel of the reduced image on the face."""

    def reduced(self, image: Float[np.ndarray, "H W C"]) -> Float[np.ndarray, "h w C"]:
        """Return the reduced image of an image of the whole photo; zero outside the photo."""
        height, width = (n * self.step for n in self.covered.shape)
        part = np.zeros((height, width, image.shape[-1]))
        seen = image[self.corner[1] :, self.corner[0] :][:height, :width]
        part[: seen.shape[0], : seen.shape[1]] = seen
        blocks = part.reshape(*self.covered.shape[:1], self.step, -1, self.step, image.shape[-1])
        return blocks.mean((1, 3))


def albedo_on_photo(
    prediction: Prediction,
    model: MorphableModel,
    image_size: tuple[int, int],
    *,
    resolution: int = 160,
) -> AlbedoOnPhoto | None:
    """Return the model's albedo basis at the pixels of a prediction.

    None if the prediction has no mesh with the head's vertices, or no 3D landmarks.

    Args:
        prediction: the prediction, in the pixels of the whole photo.
        model: the head; without an albedo basis the result is None.
        image_size: (height, width) of the photo.
        resolution: pixels of the reduced image along the longer side of the landmarks' box.
    """
    camera = camera_of_prediction(prediction, image_size)
    vertices = prediction.vertices_camera
    if camera is None or vertices is None or len(vertices) != len(model.mean):
        return None
    landmarks = prediction.ibug_points()
    if model.albedo is None or landmarks is None:
        return None
    low, high = landmarks.min(0), landmarks.max(0)
    margin = 0.3 * (high - low).max()
    left, top = (max(0, int(v)) for v in low - margin)
    width = min(image_size[1], int(high[0] + margin) + 1) - left
    height = min(image_size[0], int(high[1] + margin) + 1) - top
    if width < 1 or height < 1:
        return None
    step = max(1, round((high - low).max() / resolution))
    size = (-(-height // step), -(-width // step))
    copy = camera.cropped(left, top, size, 1 / step)
    fragments = rasterize(
        copy.project(torch.from_numpy(vertices.astype(np.float32))), model.triangles, size
    )
    uv = interpolate(model.uv, model.uv_triangles, fragments)
    covered = fragments.mask
    depth = fragments.depth[covered].mean() if covered.any() else torch.tensor(1.0)
    return AlbedoOnPhoto(
        _on_pixels(model.albedo.mean_log, uv),
        np.stack([_on_pixels(mode, uv) for mode in model.albedo.basis_log]),
        covered.numpy(),
        (left, top),
        step,
        float(1000 * depth / copy.focal_pixels),
    )


def _on_pixels(
    texture: Float[Tensor, "3 R R"], uv: Float[Tensor, "2 h w"]
) -> Float[np.ndarray, "h w 3"]:
    return sample_texture(texture, uv).permute(1, 2, 0).numpy()
