"""Fitted photos on disk: the photo, and the head, camera, light and albedo that explain it.

A store is a tar of WebDataset form. Each face has the files `KEY.jpg`, the photo's square around
the head; `KEY.skin.jpg`, the light-free texture; and `KEY.json`, all numbers. The grey masks are
`KEY.front.png` (hair or a hat) and, optionally, `KEY.person.png` (the person).
"""

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.io.files import atomic_write
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap

_QUALITY = 95


class StoredFitError(ValueError):
    """A store of fits is missing, damaged or made for another head."""


# Compared by identity: comparing tensors does not give a single truth value.
@dataclass(frozen=True, eq=False)
class StoredFit:
    """One fitted photo, cropped to a square that is larger than the head."""

    key: str
    """Name of the photo."""
    photo: Float[Tensor, "3 S S"]
    """Linear RGB in [0, 1]."""
    front: Float[Tensor, "S S"]
    """Probability that a pixel shows hair or a hat, 0 to 1."""
    face: ExplainedFace
    """The explained face, in pixels of the square: with an albedo map, without batch axes."""
    person: Float[Tensor, "S S"] | None = None
    """Probability that a pixel shows the person or their clothes, 0 to 1; None if not stored."""

    @property
    def albedo(self) -> Float[Tensor, "3 R R"]:
        """Albedo of the whole head in UV, linear RGB.

        Raises:
            ValueError: the face has no albedo map.
        """
        if self.face.albedo_map is None:
            raise ValueError(f"The fit of {self.key} needs a face with an albedo map.")
        return self.face.albedo_map.values


def write_fits(path: Path, fits: Iterable[StoredFit], *, head: str) -> int:
    """Write a store and return its number of fits; an error leaves the path unchanged.

    Args:
        path: of the tar.
        fits: read and written one by one.
        head: sha256 of the head model of the coefficients.

    Raises:
        OutputError: the store cannot be written.
        ValueError: a face has no albedo map.
    """
    count = 0
    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for fit in fits:
            _add(archive, f"{fit.key}.jpg", _encoded(fit.photo))
            _add(archive, f"{fit.key}.skin.jpg", _encoded(fit.albedo))
            _add(archive, f"{fit.key}.front.png", _encoded_mask(fit.front))
            if fit.person is not None:
                _add(archive, f"{fit.key}.person.png", _encoded_mask(fit.person))
            _add(archive, f"{fit.key}.json", json.dumps(_numbers(fit, head)).encode())
            count += 1
    return count


class FitStore:
    """Fitted photos, decoded one at a time; the files stay compressed in memory.

    `len(store)` is their number, and `store[k]` decodes one.
    """

    def __init__(self, paths: Iterable[Path], *, head: str) -> None:
        """Open stores.

        Args:
            paths: tars that `write_fits` wrote.
            head: sha256 of the head model in use.

        Raises:
            StoredFitError: a file is missing, is not a store, or its fits use another head.
        """
        self._files: dict[str, dict[str, bytes]] = {}
        for path in paths:
            self._files.update(_read(path))
        for key, files in self._files.items():
            if missing := sorted({"jpg", "skin.jpg", "front.png", "json"} - set(files)):
                raise StoredFitError(
                    f"The fit of {key} lacks {', '.join(missing)}. Make the store again with "
                    "tools/fit_photos.py."
                )
            made_for = json.loads(files["json"]).get("head")
            if made_for != head:
                raise StoredFitError(
                    f"The fit of {key} uses the head {str(made_for)[:12]}…; the current head is "
                    f"{head[:12]}…. Make the store again with tools/fit_photos.py."
                )
        self.keys = sorted(self._files)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> StoredFit:
        key = self.keys[number]
        files = self._files[key]
        numbers = json.loads(files["json"])
        return StoredFit(
            key,
            _decoded(files["jpg"]),
            _decoded_mask(files["front.png"]),
            _face(numbers, _decoded(files["skin.jpg"])),
            _decoded_mask(files["person.png"]) if "person.png" in files else None,
        )


def _numbers(fit: StoredFit, head: str) -> dict[str, Any]:
    face, camera = fit.face, fit.face.camera
    return {
        "head": head,
        "coefficients": {k: v.tolist() for k, v in vars(face.coefficients).items()},
        "camera": {
            "focal_pixels": camera.focal_pixels.item(),
            "principal_point": camera.principal_point.tolist(),
            "world_to_camera": camera.world_to_camera.tolist(),
            "image_size": list(camera.image_size),
        },
        "light_sh": face.light.coefficients.tolist(),
    }


def _face(numbers: dict[str, Any], albedo: Float[Tensor, "3 R R"]) -> ExplainedFace:
    """Return the explained face from stored numbers; its albedo covers the whole head."""
    return ExplainedFace(
        FaceCoefficients(**{k: torch.tensor(v) for k, v in numbers["coefficients"].items()}),
        PerspectiveCamera(
            torch.tensor(numbers["camera"]["focal_pixels"]),
            torch.tensor(numbers["camera"]["principal_point"]),
            torch.tensor(numbers["camera"]["world_to_camera"]),
            tuple(numbers["camera"]["image_size"]),
        ),
        SphericalHarmonicsLight(torch.tensor(numbers["light_sh"])),
        albedo_map=UVMap(albedo, torch.ones_like(albedo[0])),
    )


def _read(path: Path) -> dict[str, dict[str, bytes]]:
    files: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    key, _, extension = member.name.partition(".")
                    files.setdefault(key, {})[extension] = content.read()
    except FileNotFoundError as error:
        raise StoredFitError(
            f"There is no store of fits at {path}. Make one with tools/fit_photos.py."
        ) from error
    except (tarfile.TarError, OSError) as error:
        raise StoredFitError(
            f"{path} cannot be read as a store of fits ({error}). Make it again with "
            "tools/fit_photos.py."
        ) from error
    return files


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _encoded(image: Float[Tensor, "3 H W"]) -> bytes:
    return _image_bytes(Image.fromarray(pixels_from_image(image)), "JPEG", quality=_QUALITY)


def _encoded_mask(mask: Float[Tensor, "H W"]) -> bytes:
    grey = (mask.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return _image_bytes(Image.fromarray(grey), "PNG")


def _image_bytes(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _decoded(content: bytes) -> Float[Tensor, "3 H W"]:
    return image_from_pixels(np.array(Image.open(io.BytesIO(content)).convert("RGB")))


def _decoded_mask(content: bytes) -> Float[Tensor, "H W"]:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)), np.float32) / 255)
