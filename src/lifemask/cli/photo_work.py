"""Reconstructing one photo: read it, find its faces, write their files, and say what happened."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from lifemask.cli.photo_plan import PlannedPhoto
from lifemask.cli.reconstruct_options import ReconstructOptions
from lifemask.io.files import OutputError, printable, staged, write_json
from lifemask.io.images import Photo, PhotoError, write_image

_NO_FACE_ADVICE = (
    "no face found. If the face fills the photo, add --crop; if it is small, crop the photo around it; "
    "if it lies on its side, rotate the photo upright"
)


class SetupError(RuntimeError):
    """The reconstructor could not be built, so all photos would fail."""


@runtime_checkable
class Face(Protocol):
    """The part of `lifemask.FaceReconstruction` that this command uses."""

    @property
    def confidence(self) -> float: ...  # noqa: D102
    def save(self, path: Path, *, neutral: bool, detail: Literal["map", "mesh"]) -> None: ...  # noqa: D102
    def save_textures(self, folder: Path, stem: str) -> Sequence[Path]: ...  # noqa: D102
    def preview(self) -> np.ndarray: ...  # noqa: D102
    def to_json_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def save_arrays(self, path: Path) -> None: ...  # noqa: D102


@runtime_checkable
class Reconstructor(Protocol):
    """The part of `lifemask.FaceReconstructor` that this command uses."""

    def __call__(  # noqa: D102
        self,
        photo: Photo,
        *,
        faces: Literal["all", "largest"],
        crop: bool,
        on_stage: Callable[[str], object],
    ) -> Sequence[Face]: ...


Loader = Callable[[ReconstructOptions], Reconstructor]
"""Builds a reconstructor."""


def load_reconstructor(options: ReconstructOptions) -> Reconstructor:
    """Build the default reconstructor on the chosen device."""
    from lifemask.cli.devices import torch_device
    from lifemask.pipeline.reconstructor import FaceReconstructor
    from lifemask.systems.registry import DEFAULT_SYSTEM

    on_cpu = options.device == "auto" and options.runtime == "onnxruntime"
    device = "cpu" if on_cpu else torch_device(options.device)
    return FaceReconstructor.from_pretrained(
        quality=options.quality,
        device=device,
        texture_size=options.texture_size,
        system=options.system or DEFAULT_SYSTEM,
        hair=options.hair,
        runtime=options.runtime,
    )


@dataclass(frozen=True)
class PhotoResult:
    """The result of one photo."""

    photo: Path
    """The photo as the user names it."""
    status: Literal["done", "skipped", "no face", "failed"] = "done"
    """What happened; `skipped` if its results were already there."""
    message: str = ""
    """Why it failed or was skipped; empty if all went well."""
    faces: tuple[Mapping[str, Any], ...] = ()
    """`files`, `confidence` and `warnings` of each face."""
    seconds: float = 0.0
    """Time that it took."""


@dataclass
class PhotoWork:
    """Reconstructs photos; the reconstructor is loaded after the first photo was read."""

    options: ReconstructOptions
    """How to reconstruct."""
    folder: Path
    """For the results."""
    load: Loader
    """Makes the reconstructor."""
    reconstructor: Reconstructor | None = None
    """The reconstructor, once it is loaded."""

    def photo(self, planned: PlannedPhoto, *, on_stage: Callable[[str], object]) -> PhotoResult:
        """Reconstruct a photo, write its results and return what happened; only setup errors are raised.

        Args:
            planned: the photo, neither refused nor finished.
            on_stage: told what is done at the moment.

        Raises:
            SetupError: the reconstructor could not be built.
        """
        path = planned.source.path
        started = time.perf_counter()
        status, message, faces = "done", "", ()
        try:
            on_stage("reading")
            photo = planned.source.read()
            if self.reconstructor is None:
                on_stage("loading")
            found = self._ready()(
                photo, faces=self.options.faces, crop=self.options.crop, on_stage=on_stage
            )
            if found:
                on_stage("writing")
                faces = tuple(self._write(planned, found))
            else:
                status, message = "no face", _NO_FACE_ADVICE
        except (PhotoError, OutputError) as error:
            status, message = "failed", str(error)
        except SetupError:
            raise
        except Exception as error:
            # Other photos continue after any error of one photo. Developers need the error's type.
            status, message = "failed", f"unexpected {type(error).__name__}: {error}"
        return PhotoResult(path, status, message, faces, time.perf_counter() - started)

    def _ready(self) -> Reconstructor:
        if self.reconstructor is None:
            try:
                self.reconstructor = self.load(self.options)
            except ValueError as error:
                raise SetupError(str(error)) from error
            except Exception as error:
                raise SetupError(f"{type(error).__name__}: {error}") from error
        return self.reconstructor

    def _write(self, planned: PlannedPhoto, faces: Sequence[Face]) -> Iterator[dict[str, Any]]:
        name = planned.name
        names = [name] if len(faces) == 1 else [f"{name}_{k + 1}" for k in range(len(faces))]
        source = {
            "file": printable(planned.source.named.name),
            "sha256": planned.source.sha256(),
        }
        written: list[tuple[list[str], list[Any]]] = []
        with staged(self.folder, may_replace=planned.may_replace) as hidden:
            known: set[str] = set()
            for label, face in zip(names, faces, strict=True):
                document = face.to_json_dict()
                self._write_face(hidden, label, face)
                files = sorted({file.name for file in hidden.iterdir()} - known | {f"{label}.json"})
                known.update(files)
                document["photo"] = document.get("photo", {}) | source
                # The next run replaces the files that are listed here, and no others.
                listed = sorted({*files, *planned.earlier})
                write_json(hidden / f"{label}.json", document | {"files": listed})
                written.append((files, document.get("warnings", [])))
        for (files, warnings), face in zip(written, faces, strict=True):
            yield {
                "files": [str(self.folder / file) for file in files],
                "confidence": round(face.confidence, 4),
                "warnings": warnings,
            }

    def _write_face(self, folder: Path, name: str, face: Face) -> None:
        for suffix in self.options.formats:
            face.save(
                folder / f"{name}.{suffix}",
                neutral=self.options.neutral,
                detail=self.options.detail,
            )
        if self.options.textures:
            face.save_textures(folder, name)
        if self.options.preview:
            write_image(folder / f"{name}_preview.png", face.preview())
        if self.options.arrays:
            face.save_arrays(folder / f"{name}.npz")
