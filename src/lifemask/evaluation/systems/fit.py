"""The project's own fit of one photo, as `lifemask reconstruct` runs it."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.evaluation.cache import fingerprint
from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction, prediction_from_arrays
from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.pipeline.reconstructor import FaceReconstructor

_SMALL_PHOTO = 256
"""Pixels along the longer side up to which a texture of 512 texels holds all there is to see."""


class FitSystem:
    """Analysis by synthesis with the default head."""

    name = "fit"

    def __init__(self, perception: FacePerception, model: MorphableModel, version: str) -> None:
        """Fit this head with these networks; answers change with `version`."""
        self.version = version
        self._perception = perception
        self._fitters: dict[Quality, FaceFitter] = {
            "fast": FaceFitter(model, FitConfig(quality="fast")),
            "full": FaceFitter(model, FitConfig(quality="full")),
        }

    @classmethod
    def from_pretrained(cls) -> "FitSystem":
        """Load the networks and the head that ship with the package."""
        version = fingerprint(
            *("assets", "fitting", "geometry", "io", "morphable"),
            *("networks", "perception", "pipeline", "rendering", "systems"),
        )
        return cls(FacePerception.from_pretrained(), MorphableModel.from_pretrained(), version)

    @torch.no_grad()
    def predict(
        self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool, quality: Quality
    ) -> Prediction | None:
        """Return the largest face as the arrays that `--arrays` writes, or None without a face."""
        texture_size = 512 if max(pixels.shape[:2]) <= _SMALL_PHOTO else 2048
        reconstructor = FaceReconstructor(
            self._perception, self._fitters[quality], texture_size=texture_size
        )
        faces = reconstructor(pixels, faces="largest", crop=crop)
        return prediction_from_arrays(faces[0].arrays(), source="the fit") if faces else None
