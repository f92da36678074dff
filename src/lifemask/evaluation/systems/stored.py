"""Stored predictions of other programs: 3DDFA_V2 in the data, or a folder of `.npz` files."""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.config import FORMER_NAMES, EvaluationError
from lifemask.evaluation.predictions import Prediction, read_prediction


class StoredThreeDDFA:
    """3DDFA_V2's (mb0.5) predictions for `aflw21` and `yaleb`, from `dev/peers`.

    Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020.
    """

    name = "3ddfa_v2"

    def __init__(self, development: Path) -> None:
        """Read from `development/peers/3ddfa_v2_mb05`; without it there are no predictions."""
        self._folder = development / "peers" / "3ddfa_v2_mb05"

    def stored(self, benchmark: str, key: str) -> Prediction | None:
        """Return the prediction for a photo of `aflw21` or `yaleb` (key PERSON__LIGHT)."""
        if benchmark == "aflw21":
            points = self._landmarks.get(key)
            return points and Prediction(landmarks68=points[0], aflw21=points[1])
        if benchmark == "yaleb" and f"{key}/normals" in self._normals:
            mask = self._normals[f"{key}/mask"].astype(bool)
            normals = self._normals[f"{key}/normals"].astype(np.float32)
            length = np.linalg.norm(normals, axis=-1, keepdims=True)
            unit = normals / (length + 1e-9) * mask[..., None]
            return Prediction(normals=unit.astype(np.float32), mask=mask)
        return None

    @cached_property
    def _landmarks(
        self,
    ) -> dict[str, tuple[Float[np.ndarray, "68 2"], Float[np.ndarray, "21 2"]]]:
        arrays = self._read("aflw21.npz")
        if not arrays:
            return {}
        points = zip(arrays["landmarks68"], arrays["aflw21"], strict=True)
        return {str(k): p for k, p in zip(arrays["key"], points, strict=True)}

    @cached_property
    def _normals(self) -> dict[str, np.ndarray]:
        return self._read("yaleb.npz")

    def _read(self, name: str) -> dict[str, np.ndarray]:
        path = self._folder / name
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)


class PredictionFolder:
    """A folder of predictions by any program: `BENCHMARK/KEY.npz`, or `KEY.npz`."""

    def __init__(self, folder: Path) -> None:
        """Read from an existing folder.

        Raises:
            EvaluationError: there is no such folder, or it holds no `.npz`.
        """
        if not folder.is_dir():
            raise EvaluationError(
                f"{folder} is not a folder. Name a folder of predictions (KEY.npz or "
                "BENCHMARK/KEY.npz), as `lifemask reconstruct --arrays` writes them."
            )
        if next(folder.rglob("*.npz"), None) is None:
            raise EvaluationError(
                f"{folder} holds no .npz file. Name a folder with KEY.npz or BENCHMARK/KEY.npz."
            )
        self.name = folder.name
        self._folder = folder

    def stored(self, benchmark: str, key: str) -> Prediction | None:
        """Return the prediction in `BENCHMARK/KEY.npz`, else in `KEY.npz`."""
        former = (old for old, new in FORMER_NAMES.items() if new == benchmark)
        for folder in (benchmark, *former, "."):
            path = self._folder / folder / f"{key}.npz"
            if path.is_file():
                return read_prediction(path)
        return None
