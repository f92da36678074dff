"""Finished predictions on disk, so that a long evaluation can stop and continue."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.config import EvaluationError, Quality
from lifemask.evaluation.predictions import Prediction, read_prediction
from lifemask.pipeline.document import SCHEMA_VERSION


def default_cache_folder() -> Path:
    """Return the folder named by LIFEMASK_CACHE, else ~/.cache/lifemask."""
    named = os.environ.get("LIFEMASK_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lifemask"


@dataclass(frozen=True)
class PredictionCache:
    """The predictions of one version of a system, by the photo's content and the options."""

    folder: Path
    """The folder, created when the first prediction is written."""

    @classmethod
    def for_system(cls, cache: Path | None, name: str, version: str) -> "PredictionCache":
        """Return the cache of a system's version in the cache folder (None: the default one)."""
        root = default_cache_folder() if cache is None else cache
        return cls(root / "evaluate" / name / version)

    def path(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        keep: tuple[str, ...],
    ) -> Path:
        """Return the file of one photo's prediction under these options."""
        digest = hashlib.sha256(repr((pixels.shape, crop, quality, sorted(keep))).encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def read(self, path: Path) -> tuple[bool, Prediction | None]:
        """Return whether the photo is finished, and its prediction (None: no face was found)."""
        if not path.exists():
            return False, None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                if "no_face" in archive.files:
                    return True, None
            return True, read_prediction(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, EvaluationError):
            # The photo of a damaged file is predicted again.
            path.unlink(missing_ok=True)
            return False, None

    def write(self, path: Path, prediction: Prediction | None) -> None:
        """Write a prediction, complete or not at all; maps and shading in half precision."""
        arrays = {"no_face": np.array(True)} if prediction is None else prediction.arrays()
        small = {
            name: value.astype(np.float16) if name in _HALF else value
            for name, value in arrays.items()
        }
        write_arrays(path, small | {"schema": np.array(SCHEMA_VERSION)})


_HALF = ("normals", "normals_coarse", "albedo", "shading", "vertices_albedo")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed `.npz`, complete or not at all; its folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]  # no array has an option's name
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
