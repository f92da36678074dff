"""What the judge asks of a system."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction
from lifemask.perception.observation import FaceObservation


@runtime_checkable
class System(Protocol):
    """Something that looks at photos."""

    name: str
    """What its row is called."""
    version: str
    """Changes whenever its answers may change; finished predictions are kept by it."""

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
            crop: the whole photo is the face: always answer.
            quality: "fast" is the coarse fit.
            fields: what will be read of the prediction; the rest may be left out. None: all.
        """
        ...


@runtime_checkable
class StoredOutputs(Protocol):
    """Answers of a program that was run before, by the name of the photo."""

    name: str
    """What its row is called."""

    def stored(self, benchmark: str, key: str) -> Prediction | None:
        """Return the answer for a photo of a benchmark, or None if none is stored."""
        ...


@runtime_checkable
class FitsLandmarks(Protocol):
    """A system whose dense landmarks can be changed before it fits them."""

    name: str
    """What its row is called."""

    def observe(self, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool) -> FaceObservation | None:
        """Return what perception says about the largest face, or None if there is none."""
        ...

    def predict_from(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> Prediction:
        """Return at least `landmarks68` for a photo observed like this."""
        ...


def is_folder(name: str) -> bool:
    """Tell whether a system is named by a folder of predictions rather than by its name."""
    return "/" in name or "\\" in name or Path(name).is_dir()
