"""Any registered system: its predictions, without a fit."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.config import EvaluationError, Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.explained_face import POINTS, face_prediction
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.morphable.assets import AssetError
from lifemask.morphable.model import MorphableModel
from lifemask.networks.frozen import weights_digest
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.predictor import SystemPredictor
from lifemask.systems.registry import load_system


class RegisteredSystem:
    """The predictions of a system for the framed face; the quality has no effect."""

    def __init__(
        self, name: str, perception: FacePerception, predictor: SystemPredictor, version: str
    ) -> None:
        """Evaluate this predictor; `version` changes whenever its predictions may change."""
        self.name = name
        self.version = version
        self._perception = perception
        self._predictor = predictor

    @classmethod
    def load(cls, name: str, weights: Path | None = None) -> "RegisteredSystem":
        """Load a system of the registry with the networks and the head that ship with the package.

        Args:
            name: one of `lifemask.systems.registry.system_names()`.
            weights: a file that a training wrote; by default those that ship with the package.

        Raises:
            EvaluationError: there are no such weights.
        """
        predictor = load_predictor(name, weights)
        version = f"{code_fingerprint(__name__)}-{weights_digest(predictor.system)}"
        return cls(name, FacePerception.from_pretrained(), predictor, version)

    @torch.no_grad()
    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the head that the system predicts, or None if no face is found."""
        observation = self.observe(pixels, crop=crop)
        if observation is None:
            return None
        face = self._predictor(pixels, observation)
        return face_prediction(self._predictor.model, face, fields=fields)

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the dense landmarks of the largest face, which define its frame."""
        return observe_largest(self._perception, pixels, crop=crop, quality="fast")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the predicted points of the face with the frame of these landmarks."""
        face = self._predictor(pixels, observation)
        return face_prediction(self._predictor.model, face, fields=POINTS)


def load_predictor(name: str, weights: Path | None = None) -> SystemPredictor:
    """Return the predictor of a registered system on the default head.

    Args:
        name: name of the system.
        weights: a file that a training wrote; by default those that ship with the package.

    Raises:
        EvaluationError: there are no such weights, or they are of another system.
    """
    try:
        system = load_system(name, weights=weights)
    except (AssetError, OSError, ValueError, RuntimeError) as error:
        raise EvaluationError(
            f"The weights of {name} cannot be used: {error} A system with weights of its own is "
            f"evaluated as {name}=weights.safetensors."
        ) from error
    return SystemPredictor(system, MorphableModel.from_pretrained())
