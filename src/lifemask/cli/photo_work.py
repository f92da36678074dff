"""Reconstructing photos one after the other; the failure of one does not stop the others."""

import hashlib
import json
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from lifemask.cli.exit_codes import DONE, DOUBTFUL, FAILED, NO_FACE
from lifemask.cli.photo_plan import PlannedPhoto, plan_photos
from lifemask.cli.reconstruct_options import ReconstructOptions
from lifemask.io.files import OutputError, make_folder, printable, staged, write_json
from lifemask.io.images import Photo, PhotoError, read_photo, write_image

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
    def save(self, path: Path) -> None: ...  # noqa: D102
    def preview(self) -> np.ndarray: ...  # noqa: D102
    def to_json_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def save_arrays(self, path: Path) -> None: ...  # noqa: D102


@runtime_checkable
class Reconstructor(Protocol):
    """The part of `lifemask.FaceReconstructor` that this command uses."""

    def __call__(  # noqa: D102
        self, photo: Photo, *, faces: Literal["all", "largest"], crop: bool
    ) -> Sequence[Face]: ...


def load_reconstructor(options: ReconstructOptions) -> Reconstructor:
    """Build the default reconstructor on the chosen device."""
    import torch

    from lifemask.pipeline.reconstructor import FaceReconstructor
    from lifemask.systems.registry import DEFAULT_SYSTEM

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return FaceReconstructor.from_pretrained(
        quality=options.quality,
        device=device,
        texture_size=options.texture_size,
        system=options.system or DEFAULT_SYSTEM,
        hair=options.hair,
    )


def reconstruct_photos(
    options: ReconstructOptions,
) -> int:
    """Reconstruct all photos, report each as soon as it is finished, and return the exit code.

    The reconstructor is loaded after the first photo was read.
    """
    try:
        folder = make_folder(options.output)
    except OutputError as error:
        print(error, file=sys.stderr)
        return FAILED
    photos = plan_photos(options, folder)
    work = _Work(options, folder)
    statuses: set[str] = set()
    for index, photo in enumerate(photos):
        try:
            with _progress(f"[{index + 1}/{len(photos)}] {photo.path}"):
                result = work.photo(photo)
        except SetupError as error:
            print(f"The reconstructor cannot be loaded. {error}", file=sys.stderr)
            return FAILED
        result.report(as_json=options.json)
        statuses.add(result.status)
        if any(face["warnings"] for face in result.faces):
            statuses.add("doubtful")
    if "failed" in statuses:
        return FAILED
    if "no face" in statuses:
        return NO_FACE
    return DOUBTFUL if options.strict and "doubtful" in statuses else DONE


@dataclass
class _Result:
    """The result of one photo."""

    photo: Path
    status: Literal["done", "no face", "failed"] = "done"
    message: str = ""
    faces: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0

    def report(self, *, as_json: bool) -> None:
        if as_json:
            report = {
                "photo": str(self.photo),
                "status": self.status,
                "message": self.message,
                "faces": self.faces,
                "seconds": round(self.seconds, 3),
            }
            print(_json_line(report), flush=True)
            return
        for face in self.faces:
            print(*face["files"], sep="\n", flush=True)
            head = next(Path(file).stem for file in face["files"] if file.endswith(".json"))
            for warning in face["warnings"]:
                print(f"{self.photo}: warning for {head}: {warning['message']}", file=sys.stderr)
        if self.message:
            print(f"{self.photo}: {self.message.removesuffix('.')}.", file=sys.stderr)


@dataclass
class _Work:
    """State of one run; the reconstructor is loaded for the first photo."""

    options: ReconstructOptions
    folder: Path
    reconstructor: Reconstructor | None = None

    def ready(self) -> Reconstructor:
        if self.reconstructor is None:
            try:
                self.reconstructor = load_reconstructor(self.options)
            except ValueError as error:
                raise SetupError(str(error)) from error
            except Exception as error:
                raise SetupError(f"{type(error).__name__}: {error}") from error
        return self.reconstructor

    def photo(self, planned: PlannedPhoto) -> _Result:
        result = _Result(planned.path)
        started = time.perf_counter()
        try:
            if planned.refusal:
                raise OutputError(planned.refusal)
            photo = read_photo(planned.path)
            options = self.options
            faces = self.ready()(photo, faces=options.faces, crop=options.crop)
            if faces:
                result.faces = list(self._write(planned, faces))
            else:
                result.status, result.message = "no face", _NO_FACE_ADVICE
        except (PhotoError, OutputError) as error:
            result.status, result.message = "failed", str(error)
        except SetupError:
            raise
        except Exception as error:
            # Other photos continue after any error of one photo. Developers need the error's type.
            result.status = "failed"
            result.message = f"unexpected {type(error).__name__}: {error}"
        result.seconds = time.perf_counter() - started
        return result

    def _write(self, planned: PlannedPhoto, faces: Sequence[Face]) -> Iterator[dict[str, Any]]:
        name = planned.name
        names = [name] if len(faces) == 1 else [f"{name}_{k + 1}" for k in range(len(faces))]
        source = {"file": printable(planned.path.name), "sha256": _sha256(planned.path)}
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
            face.save(folder / f"{name}.{suffix}")
        write_image(folder / f"{name}_preview.png", face.preview())
        if self.options.arrays:
            face.save_arrays(folder / f"{name}.npz")


@contextmanager
def _progress(text: str) -> Generator[None]:
    """Show the current photo on a terminal, then remove the line; print nothing in a pipe."""
    terminal = sys.stderr.isatty()
    if terminal:
        print(f"{text} …", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _json_line(value: dict[str, Any]) -> str:
    """Return one line of JSON that the standard output can show."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
