"""The project's own fit of one photo, as `lifemask reconstruct` runs it."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.cache import fingerprint
from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction, prediction_from_arrays
from lifemask.evaluation.systems.observing import observe_largest
from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable.contour import visible_landmarks68
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.reconstructor import FaceReconstructor, Predictor

_SMALL_PHOTO = 256
"""Pixels along the longer side up to which a texture of 512 texels holds all there is to see."""


_POINTS = frozenset({"landmarks68", "aflw21"})
"""What follows from the coarse fit without any texture."""


class FitSystem:
    """Analysis by synthesis with the default head."""

    name = "fit"

    def __init__(self, perception: FacePerception, model: MorphableModel, version: str) -> None:
        """Fit this head with these networks; answers change with `version`."""
        self.version = version
        self._perception = perception
        self._predictor: Predictor | None = None
        self._fitters: dict[Quality, FaceFitter] = {
            "fast": FaceFitter(model, FitConfig.preset("fast")),
            "full": FaceFitter(model, FitConfig.preset("full")),
        }

    @classmethod
    def from_pretrained(cls) -> "FitSystem":
        """Load the networks and the head that ship with the package."""
        version = fingerprint(
            *("assets/head", "assets/perception", "fitting", "geometry", "io"),
            *("morphable", "perception", "pipeline", "rendering"),
        )
        return cls(FacePerception.from_pretrained(), MorphableModel.from_pretrained(), version)

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
        if fields is not None and quality == "fast" and _POINTS.issuperset(fields):
            return self._points(pixels, crop=crop)
        texture_size = 512 if max(pixels.shape[:2]) <= _SMALL_PHOTO else 2048
        reconstructor = FaceReconstructor(
            self._perception, self._predictor, self._fitters[quality], texture_size=texture_size
        )
        faces = reconstructor(pixels, faces="largest", crop=crop)
        return prediction_from_arrays(faces[0].arrays(), source="the fit") if faces else None

    def _points(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> Prediction | None:
        """Return the points of the coarse fit alone; they are the same as with a texture."""
        observation = self.observe(pixels, crop=crop)
        return None if observation is None else self.predict_from(pixels, observation)

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return what the coarse fit is given about the largest face."""
        return observe_largest(self._perception, pixels, crop=crop, quality="fast")

    @torch.no_grad()
    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return the points of the coarse fit to this observation."""
        fitter = self._fitters["fast"]
        prediction = FaceReconstructor(self._perception, self._predictor, fitter).predict(
            pixels, observation
        )
        fit = fitter(pixels, observation, start=prediction)
        model = fitter.model
        vertices = model.vertices(fit.face.coefficients)
        landmarks68 = visible_landmarks68(model, vertices, fit.face.camera)
        aflw21 = None
        if model.aflw21 is not None:
            points = model.aflw21.points(vertices, model.triangles)
            aflw21 = fit.face.camera.project(points)[:, :2].numpy()
        return Prediction(
            landmarks68=fit.face.camera.project(landmarks68)[:, :2].numpy(), aflw21=aflw21
        )
