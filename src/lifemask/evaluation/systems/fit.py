"""The project's own fit of one photo, as `lifemask reconstruct` runs it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.predictions import Prediction, prediction_from_arrays
from lifemask.evaluation.systems.explained_face import POINTS, face_prediction
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.evaluation.systems.registered import load_predictor
from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable.model import MorphableModel
from lifemask.networks.frozen import weights_digest
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.predictor import SystemPredictor
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.pipeline.second_stages import SecondStage, released_stages

_SMALL_PHOTO = 256
"""A texture of 512 texels is enough for photos of at most this many pixels a side."""


class FitSystem:
    """Analysis by synthesis with the default head, from landmarks or from a system's prediction."""

    def __init__(
        self,
        name: str,
        perception: FacePerception,
        model: MorphableModel,
        predictor: SystemPredictor | None,
        version: str,
        *,
        stages: Sequence[SecondStage] = (),
    ) -> None:
        """Fit this head with these networks.

        Args:
            name: name of the row.
            perception: finds and measures faces.
            model: the head.
            predictor: predicts the start of the fit; None: the fit starts from landmarks alone.
            version: changes whenever predictions may change.
            stages: add to fitted faces in quality `full`, one after the other.
        """
        self.name = name
        self.version = version
        self._perception = perception
        self._reconstructors: dict[Quality, FaceReconstructor] = {
            quality: FaceReconstructor(
                perception,
                predictor,
                FaceFitter(model, FitConfig.preset(quality)),
                stages=stages if quality == "full" else (),
            )
            for quality in ("fast", "full")
        }

    @classmethod
    def load(cls, system: str | None = None, weights: Path | None = None) -> "FitSystem":
        """Load the networks and the head that ship with the package.

        Args:
            system: a registered system that predicts the start of the fit; None: no system, and no
                second stages.
            weights: a file that a training wrote; by default those that ship with the package.

        Raises:
            EvaluationError: there are no such weights.
        """
        predictor = None if system is None else load_predictor(system, weights)
        version = code_fingerprint(__name__)
        model = MorphableModel.from_pretrained()
        stages = () if predictor is None else released_stages(model)
        if predictor is not None:
            for part in (predictor, *stages):
                version += f"-{weights_digest(part.system)}"
        name = "plain_fit" if system is None else f"{system}_fit"
        perception = FacePerception.from_pretrained()
        return cls(name, perception, model, predictor, version, stages=stages)

    @torch.no_grad()
    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the largest face as the arrays that `--arrays` writes, or None without a face."""
        if fields is not None and quality == "fast" and set(POINTS).issuperset(fields):
            observation = self.observe(pixels, crop=crop)
            return None if observation is None else self.predict_from(pixels, observation)
        reconstructor = self._reconstructors[quality]
        reconstructor.texture_size = 512 if max(pixels.shape[:2]) <= _SMALL_PHOTO else 2048
        faces = reconstructor(pixels, faces="largest", crop=crop)
        return prediction_from_arrays(faces[0].arrays(), source="the fit") if faces else None

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the observation of the largest face, the input of the coarse fit."""
        return observe_largest(self._perception, pixels, crop=crop, quality="fast")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the points of the coarse fit to this observation; they do not need a texture."""
        reconstructor = self._reconstructors["fast"]
        fit = reconstructor.explain(pixels, observation)
        return face_prediction(reconstructor.model, fit.face, fields=POINTS)
