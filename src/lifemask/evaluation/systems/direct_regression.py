"""The plain regressor, alone and as the start of the fit."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.cache import fingerprint
from lifemask.evaluation.config import EvaluationError, Quality
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.fit import FitSystem
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.assets import AssetError
from lifemask.morphable.contour import visible_landmarks68
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.systems.guide import SystemGuide
from lifemask.systems.pictures import opaque_triangles
from lifemask.systems.registry import load_system

POINTS = ("landmarks68", "landmarks68_camera", "aflw21")
"""Fields for which nothing needs to be drawn."""

_PARTS = (
    *("assets", "fitting", "geometry", "io", "morphable"),
    *("networks", "perception", "pipeline", "rendering", "systems"),
)


class DirectRegressionSystem:
    """What the network says of the framed face; the quality makes no difference."""

    name = "direct_regression"

    def __init__(
        self, perception: FacePerception, model: MorphableModel, guide: SystemGuide, version: str
    ) -> None:
        """Judge this guide's answers, which change with `version`."""
        self.version = version
        self._perception = perception
        self._model = model
        self._guide = guide

    @classmethod
    def from_pretrained(cls) -> "DirectRegressionSystem":
        """Load the networks and the head that ship with the package."""
        model = MorphableModel.from_pretrained()
        return cls(FacePerception.from_pretrained(), model, _guide(model), fingerprint(*_PARTS))

    @torch.no_grad()
    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the face's surface, points and normals, or None where no face is found."""
        observation = self.observe(pixels, crop=crop)
        if observation is None:
            return None
        return estimate_prediction(self._model, self._guide(pixels, observation), fields)

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the dense landmarks of the largest face, by which it is framed."""
        return observe_largest(self._perception, pixels, crop=crop, quality="fast")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the points of a face that is framed by these landmarks."""
        estimate = self._guide(pixels, observation)
        return estimate_prediction(self._model, estimate, POINTS)


class DirectRegressionFitSystem(FitSystem):
    """The fit that starts from the network's answer, and leans on it in profiles."""

    name = "direct_regression_fit"

    def __init__(
        self, perception: FacePerception, model: MorphableModel, guide: SystemGuide, version: str
    ) -> None:
        """Fit this head with these networks, led by this guide; answers change with `version`."""
        super().__init__(perception, model, version)
        self._predictor = guide

    @classmethod
    def from_pretrained(cls) -> "DirectRegressionFitSystem":
        """Load the networks and the head that ship with the package."""
        model = MorphableModel.from_pretrained()
        return cls(FacePerception.from_pretrained(), model, _guide(model), fingerprint(*_PARTS))


def estimate_prediction(
    model: MorphableModel, estimate: ExplainedFace, fields: tuple[str, ...] | None = None
) -> Prediction:
    """Return an estimate as the arrays that benchmarks read.

    Args:
        model: the head.
        estimate: of one face in the photo's pixels, on the CPU.
        fields: what will be read; where that is landmarks alone, nothing is drawn.
    """
    if model.landmarks68 is None or model.aflw21 is None:
        raise EvaluationError("The head has no 68 or 21 landmarks, so nothing can be judged.")
    camera, triangles = estimate.camera, model.triangles
    vertices = model.vertices(estimate.coefficients)
    points68 = visible_landmarks68(model, vertices, camera)
    aflw21 = model.aflw21.points(vertices, triangles)
    points = {
        "landmarks68": camera.project(points68)[:, :2].numpy(),
        "landmarks68_camera": camera.to_camera(points68).numpy(),
        "aflw21": camera.project(aflw21)[:, :2].numpy(),
    }
    if fields is not None and set(POINTS).issuperset(fields):
        return Prediction(**points)
    neutral = model.vertices(replace(model.neutral(), identity=estimate.coefficients.identity))
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


def _guide(model: MorphableModel) -> SystemGuide:
    try:
        return SystemGuide(load_system("direct_regression"), model)
    except AssetError as error:
        raise EvaluationError(
            f"The regressor's weights cannot be used: {error} Judge another system, or train this "
            "one with `lifemask train direct_regression`."
        ) from error
