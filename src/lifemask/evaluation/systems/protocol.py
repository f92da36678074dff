"""The interfaces of systems that can be evaluated."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction
from lifemask.perception.observation import FaceObservation


@runtime_checkable
class System(Protocol):
    """A program that predicts a face from a photo."""

    name: str
    """Name of its row."""
    version: str
    """Changes whenever predictions may change; finished predictions are kept by version."""

    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the largest face of a photo, or None if there is none.

        Args:
            pixels: sRGB.
            crop: the whole photo is the face, so there is always a prediction.
            quality: "fast" is the coarse fit.
            fields: the fields that will be read; others may be missing. None: all.
        """
        ...


@runtime_checkable
class StoredOutputs(Protocol):
    """Predictions of a program that ran before, by the name of the photo."""

    name: str
    """Name of its row."""

    def stored(self, benchmark: str, key: str) -> Prediction | None:
        """Return the prediction for a photo of a benchmark, or None if none is stored."""
        ...


@runtime_checkable
class FitsLandmarks(Protocol):
    """A system with dense landmarks that can be changed before the fit."""

    name: str
    """Name of its row."""

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return the observation of the largest face, or None if there is none."""
        ...

    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return at least `landmarks68` for a photo with this observation."""
        ...


def is_folder(name: str) -> bool:
    """Return whether the name of a system is a folder of predictions."""
    return "/" in name or "\\" in name or Path(name).is_dir()
