"""The evaluation sets of a data folder: AFLW crops, Yale B people, development photos."""

import io
import json
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from lifemask.evaluation.config import EvaluationError

Item = TypeVar("Item")


def development_folder(data: Path | None) -> Path:
    """Return the folder `dev` of the data.

    Args:
        data: the folder that holds `dev`, or `dev` itself; None: the environment variable
            LIFEMASK_DATA.

    Raises:
        EvaluationError: there is no such folder.
    """
    named = data if data is not None else os.environ.get("LIFEMASK_DATA")
    if named is None:
        raise EvaluationError(
            "No data to evaluate on. Name the folder that holds dev/ with --data, or in the "
            "environment variable LIFEMASK_DATA."
        )
    folder = Path(named)
    for candidate in (folder / "dev", folder):
        if candidate.name == "dev" and candidate.is_dir():
            return candidate
    raise EvaluationError(f"{folder} has no folder dev/. Name the folder that holds dev/.")


@dataclass(frozen=True)
class Aflw21Crop:
    """A photo that is one face, with AFLW's manual landmarks."""

    key: str
    """Name of the photo."""
    pixels: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    landmarks: Float[np.ndarray, "21 2"]
    """AFLW's points in pixels; NaN where not annotated."""
    yaw_degrees: float
    """Absolute yaw of the head."""


def read_aflw21(development: Path) -> list[Aflw21Crop]:
    """Return the crops of `aflw21-000.tar`, in the tar's order."""
    return _aflw_crops([_existing(development / "aflw21-000.tar")])


def read_aflw_training(development: Path) -> list[Aflw21Crop]:
    """Return the AFLW crops of the training data beside `dev`, in the order of their shards."""
    folder = _existing(development.parent / "train")
    shards = sorted(folder.glob("research-aflw-*.tar"))
    if not shards:
        raise EvaluationError(
            f"{folder} has no research-aflw-*.tar. Name a complete data folder with --data."
        )
    return _aflw_crops(shards)


def _aflw_crops(shards: list[Path]) -> list[Aflw21Crop]:
    images: dict[str, bytes] = {}
    truths: dict[str, Any] = {}
    for path in shards:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None:
                    continue
                key, _, extension = member.name.rpartition(".")
                if extension == "json":
                    truths[key] = json.load(file)
                else:
                    images[key] = file.read()
    return [
        Aflw21Crop(
            key,
            _rgb(Image.open(io.BytesIO(images[key]))),
            np.array([p or (np.nan, np.nan) for p in truth["landmarks21_xy"]], np.float64),
            abs(float(truth["yaw_degrees"])),
        )
        for key, truth in truths.items()
    ]


@dataclass(frozen=True)
class YalePerson:
    """One person of Extended Yale B: photos under known lights and their photometric stereo."""

    name: str
    """The person's name, such as "yaleB01"."""
    folder: Path
    """Folder of the photos."""
    normals: Float[np.ndarray, "H W 3"]
    """True unit normals (+x image right, +y up, +z to the camera)."""
    albedo: Float[np.ndarray, "H W"]
    """True albedo in the photos' grey values: the value under a lamp that faces the surface."""
    skin: Bool[np.ndarray, "H W"]
    """True on skin with reliable truth."""
    light_directions: dict[str, Float[np.ndarray, "3"]]
    """Unit vector to the lamp by name of the light, in the axes of `normals`."""
    light_angles: dict[str, tuple[float, float]]
    """(azimuth, elevation) in degrees by name of the light."""

    def photo(self, light: str) -> Float[np.ndarray, "H W"]:
        """Return the grey values 0 to 255 under one light; they are linear in radiance."""
        return _grey(self.folder / f"{light}.png").astype(np.float64)

    def pixels(self, light: str) -> UInt8[np.ndarray, "H W 3"]:
        """Return the photo under one light as programs get it: sRGB."""
        return _rgb(Image.open(self.folder / f"{light}.png"))

    def lights_within(self, degrees: float) -> list[str]:
        """Return the lights with azimuth and elevation both within `degrees`."""
        return [k for k, (a, e) in self.light_angles.items() if max(abs(a), abs(e)) <= degrees]


def read_yaleb(development: Path) -> list[YalePerson]:
    """Return the people of `yaleb/`, by name."""
    folder = _existing(development / "yaleb")
    return [_read_yale_person(f) for f in sorted(folder.glob("yaleB*"))]


@dataclass(frozen=True)
class DevelopmentPhoto:
    """A photo of `dev/photos`, loaded on request."""

    key: str
    """File name without suffix."""
    path: Path
    """The JPEG file."""
    source: str
    """The photo's data set: frl, ukparl, voteview, utk, lfw or celebahq."""
    identity: str | None
    """Name of the person, if known."""

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the photo, sRGB."""
        return _rgb(Image.open(self.path))


def read_photos(development: Path) -> list[DevelopmentPhoto]:
    """Return the photos of `photos/`, by name."""
    folder = _existing(development / "photos")
    photos = list[DevelopmentPhoto]()
    for path in sorted(folder.glob("*.json")):
        about = json.loads(path.read_text())
        photos.append(
            DevelopmentPhoto(
                path.stem, path.with_suffix(".jpg"), about["source"], about["identity"]
            )
        )
    return photos


def identity_pairs(photos: list[DevelopmentPhoto]) -> dict[str, list[DevelopmentPhoto]]:
    """Return the people of `frl` with two photos (one neutral, one smiling), by name."""
    people: dict[str, list[DevelopmentPhoto]] = {}
    for photo in photos:
        if photo.source == "frl" and photo.identity is not None:
            people.setdefault(photo.identity, []).append(photo)
    return {name: shots for name, shots in sorted(people.items()) if len(shots) == 2}


def draw(items: list[Item], count: int | None, *, seed: int) -> list[Item]:
    """Return `count` items drawn without repetition, in their order; all of them for None."""
    if count is None or count >= len(items):
        return items
    drawn = np.random.default_rng(seed).choice(len(items), count, replace=False)
    return [items[i] for i in sorted(drawn)]


def _read_yale_person(folder: Path) -> YalePerson:
    with np.load(folder / "photometric_stereo.npz", allow_pickle=False) as truth:
        normals = truth["normal"].astype(np.float64)
        albedo = truth["albedo"].astype(np.float64)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    with Image.open(folder / "skin_mask.png") as image:
        skin = np.asarray(image) > 0
    lights = json.loads((folder / "lights.json").read_text())
    names = [Path(light["file"]).stem for light in lights]
    return YalePerson(
        folder.name,
        folder,
        normals,
        albedo,
        skin,
        {k: np.array(e["light_direction_xyz"]) for k, e in zip(names, lights, strict=True)},
        {
            k: (e["azimuth_degrees"], e["elevation_degrees"])
            for k, e in zip(names, lights, strict=True)
        },
    )


@cache
def _grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    # All rows of a table use all photos, so each photo is decoded only once.
    with Image.open(path) as image:
        return np.array(image.convert("L"))


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    with image:
        return np.array(image.convert("RGB"))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise EvaluationError(f"{path} is missing. Name a complete data folder with --data.")
    return path
