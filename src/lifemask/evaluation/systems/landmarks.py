"""The dense landmarks alone: what the fit starts from, without any face model."""

import numpy as np
from jaxtyping import Float, UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.perception.correspondences import AFLW21_FROM_DENSE478, IBUG68_FROM_DENSE478
from lifemask.perception.face_perception import FacePerception


class LandmarkSystem:
    """FaceMesh-V2's dense points, taken as the answer; the quality makes no difference."""

    name = "landmarks"

    def __init__(self, perception: FacePerception, version: str) -> None:
        """Judge these networks, whose answers change with `version`."""
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
        """Return the 68 and the 21 points, or None where no face is found."""
        observation = observe_largest(self._perception, pixels, crop=crop, quality="full")
        if observation is None:
            return None
        points: Float[np.ndarray, "478 2"] = observation.landmarks478[:, :2].numpy()
        return Prediction(
            landmarks68=points[list(IBUG68_FROM_DENSE478)],
            aflw21=points[list(AFLW21_FROM_DENSE478)],
        )
