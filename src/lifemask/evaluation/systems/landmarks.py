"""The dense landmarks alone, without a face model; they are the input of the fit."""

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.observing import landmark_prediction, observe_largest
from lifemask.perception.face_perception import FacePerception


class LandmarkSystem:
    """The 68 and 21 points from FaceMesh-V2's dense landmarks; the quality has no effect."""

    name = "landmarks"

    def __init__(self, perception: FacePerception, version: str) -> None:
        """Evaluate these networks; `version` names their code and weights."""
        self.version = version
        self._perception = perception

    @classmethod
    def from_pretrained(cls) -> "LandmarkSystem":
        """Load the networks that ship with the package."""
        return cls(FacePerception.from_pretrained(), code_fingerprint(__name__))

    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the 68 and the 21 points, or None if no face is found."""
        observation = observe_largest(self._perception, pixels, crop=crop, quality="full")
        return None if observation is None else landmark_prediction(observation)
