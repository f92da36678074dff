"""Photos that are drawn once from a seed and then kept in a folder, each with its truth."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lifemask.evaluation.cache import default_cache_folder, write_arrays
from lifemask.evaluation.ict_faces.head import IctHead, load_head

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Array = np.ndarray


@dataclass(frozen=True)
class KeptPhoto:
    """One drawn photo on disk."""

    key: str
    """Name of the photo."""
    folder: Path
    """Folder of KEY.png and KEY.npz."""

    def pixels(self) -> UInt8[Array, "H W 3"]:
        """Return the photo, sRGB."""
        return read_png(self.folder / f"{self.key}.png")


class DrawnFaces:
    """A folder of photos that are drawn from a seed when they are asked for."""

    def __init__(
        self, model: Path, name: str, version: str, *, seed: int, cache: Path | None = None
    ) -> None:
        """Use ICT-FaceKit Light at `model`; keep the photos under the cache folder.

        Args:
            model: a release folder or the repacked `.npz`.
            name: folder of the set.
            version: changes whenever the photos may change.
            seed: of all photos.
            cache: None: the default folder.
        """
        root = default_cache_folder() if cache is None else cache
        self.folder = root / "evaluate" / name / version / f"seed{seed}"
        self.seed = seed
        self._model = model

    @property
    def head(self) -> IctHead:
        """The head model of all people.

        Raises:
            EvaluationError: the model is missing or damaged.
        """
        return load_head(self._model)

    def complete(
        self,
        last_keys: list[str],
        draw: Callable[[int], None],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Draw the missing photos; the truth is written last, so its file marks a finished photo."""
        for index, key in enumerate(last_keys):
            if not _is_whole(self.folder / f"{key}.npz"):
                draw(index)
                if progress is not None:
                    progress(index + 1, len(last_keys))

    def write(
        self,
        key: str,
        pixels: UInt8[Array, "H W 3"],
        truth: "DataclassInstance",
        *,
        half: tuple[str, ...],
    ) -> None:
        """Write KEY.png and KEY.npz.

        Args:
            key: name of the photo.
            pixels: the photo, sRGB.
            truth: a dataclass of arrays and numbers.
            half: its fields that are kept in half precision.
        """
        write_png(self.folder / f"{key}.png", pixels)
        arrays = {f.name: np.asarray(getattr(truth, f.name)) for f in fields(truth)}
        small = {k: v.astype(np.float16) if k in half else v for k, v in arrays.items()}
        write_arrays(self.folder / f"{key}.npz", small)


def _is_whole(path: Path) -> bool:
    return path.exists() and zipfile.is_zipfile(path)


def read_png(path: Path) -> UInt8[Array, "H W 3"]:
    """Return an sRGB image."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def write_png(path: Path, pixels: UInt8[Array, "H W 3"]) -> None:
    """Write an sRGB image; its folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=3)
