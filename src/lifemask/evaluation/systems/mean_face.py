"""The mean head in the pose of the dense landmarks; every fit must have smaller errors."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.config import EvaluationError, Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.posing import pose_points
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.explained_face import SHAPE, face_prediction
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation


class MeanFaceSystem:
    """The same neutral head for everyone; only its pose comes from the photo."""

    name = "mean_face"

    def __init__(self, perception: FacePerception, model: MorphableModel, version: str) -> None:
        """Use the mean of `model`, which needs dense landmarks; `version` names code and weights."""
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

    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the posed mean head, its points and normals, or None if no face is found."""
        observation = self.observe(pixels, crop=crop)
        return None if observation is None else self.predict_from(pixels, observation)

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the dense landmarks of the largest face."""
        return observe_largest(self._perception, pixels, crop=crop, quality="full")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the head posed by these landmarks; landmarks with infinite sigma do not count.

        Raises:
            EvaluationError: the head has no dense or no 68 landmarks.
        """
        model = self._model
        if model.dense478 is None or model.landmarks68 is None:
            raise EvaluationError(
                "The head has no dense or no 68 landmarks, so its mean cannot be posed and "
                "evaluated. Use the default head."
            )
        vertices, triangles = model.mean, model.triangles
        camera = pose_points(
            model.dense478.points(vertices, triangles),
            observation.landmarks478,
            model.dense478.weight * torch.isfinite(observation.landmark_sigma),
            (pixels.shape[0], pixels.shape[1]),
        )
        mean = ExplainedFace(model.neutral(), camera, SphericalHarmonicsLight.ambient())
        # Colours and light of the mean face do not come from the photo.
        return face_prediction(model, mean).keep(SHAPE)
