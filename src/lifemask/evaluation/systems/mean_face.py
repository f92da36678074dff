"""The mean head, posed by the dense landmarks: the floor that every fit must pass."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.config import EvaluationError, Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.posing import pose_points
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize


class MeanFaceSystem:
    """The same neutral head for everyone; only its pose comes from the photo."""

    name = "mean_face"

    def __init__(self, perception: FacePerception, model: MorphableModel, version: str) -> None:
        """Pose the mean of `model`, which needs dense landmarks; answers change with `version`."""
        self.version = version
        self._perception = perception
        self._model = model

    @classmethod
    def from_pretrained(cls) -> "MeanFaceSystem":
        """Load the networks and the head that ship with the package."""
        return cls(
            FacePerception.from_pretrained(),
            MorphableModel.from_pretrained(),
            code_fingerprint(__name__),
        )

    @torch.no_grad()
    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the posed mean head, its points and normals, or None where no face is found."""
        observation = self.observe(pixels, crop=crop)
        return None if observation is None else self.predict_from(pixels, observation)

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the dense landmarks of the largest face."""
        return observe_largest(self._perception, pixels, crop=crop, quality="full")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the head posed by these landmarks; one of infinite sigma does not count."""
        model = self._model
        if model.dense478 is None or model.landmarks68 is None or model.aflw21 is None:
            raise EvaluationError(
                "The head has no dense, 68 or 21 landmarks, so its mean cannot be posed and judged."
            )
        vertices, triangles = model.mean, model.triangles
        # The lashes are cards with holes, not a surface.
        lashes = slice(*model.triangle_parts["lashes"])
        opaque = torch.cat([triangles[: lashes.start], triangles[lashes.stop :]])
        height, width = pixels.shape[:2]
        camera = pose_points(
            model.dense478.points(vertices, triangles),
            observation.landmarks478,
            model.dense478.weight * torch.isfinite(observation.landmark_sigma),
            (height, width),
        )
        points68 = model.landmarks68.points(vertices, triangles)
        aflw21 = model.aflw21.points(vertices, triangles)
        in_camera = camera.to_camera(vertices)
        fragments = rasterize(camera.project(vertices), opaque, (height, width))
        normals = light_axes_from_camera(vertex_normals(in_camera, triangles))
        normal_map = interpolate(normals, opaque, fragments)
        normal_map = torch.nn.functional.normalize(normal_map, dim=0)
        return Prediction(
            vertices_camera=in_camera.numpy(),
            vertices_head=vertices.numpy(),
            vertices_neutral=vertices.numpy(),
            triangles=triangles.numpy(),
            face_vertices=(model.regions["face"] > 0.5).numpy(),
            landmarks68=camera.project(points68)[:, :2].numpy(),
            landmarks68_camera=camera.to_camera(points68).numpy(),
            aflw21=camera.project(aflw21)[:, :2].numpy(),
            normals=normal_map.permute(1, 2, 0).numpy(),
            mask=fragments.mask.numpy(),
            depth=fragments.depth.numpy(),
        )
