"""AFLW2000-3D in the two layouts that circulate: photos with `.mat` files, or arrays with crops.

Zhu et al., "Face alignment across large poses: a 3D solution", 2016. Its points are the projected,
fixed points of a fitted face model; those that the photo hides count too.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from lifemask.evaluation.config import EvaluationError

CROP_SIZE = 120
"""Pixels along each side of the official crops."""

# What `loadmat` raises for damaged files, and for files of later MATLAB versions.
_DAMAGED = (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error)
_POINTS = "AFLW2000-3D.pts68.npy"
_YAWS = "AFLW2000-3D.pose.npy"
_BOXES = "AFLW2000-3D_crop.roi_box.npy"
_NAMES = "AFLW2000-3D_crop.list"
_CROPS = "AFLW2000-3D_crop"

Pixels = UInt8[np.ndarray, "H W 3"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Aflw2000Face:
    """A face with its points; its photo and its crop are loaded on request."""

    key: str
    """Name of the photo, without suffix."""
    landmarks68: Float[np.ndarray, "68 2"]
    """The true points in photo pixels."""
    yaw_degrees: float
    """Absolute yaw of the head."""
    box: Box
    """Left, top, right, bottom of the crop: edges in photo pixels; it may reach beyond the photo."""
    photo: Callable[[], Pixels] | None
    """Returns the photo, sRGB; None if only the crop is known."""
    crop: Callable[[], UInt8[np.ndarray, "S S 3"]]
    """Returns the crop, sRGB, of CROP_SIZE pixels a side."""

    def photo_points(self, crop_points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Return points of the crop in photo pixels."""
        left, top, right, bottom = self.box
        scale = np.array([right - left, bottom - top]) / CROP_SIZE
        return crop_points.astype(np.float64) * scale + [left, top]


def read_aflw2000(folder: Path) -> list[Aflw2000Face]:
    """Return the faces in a folder or in its subfolders, by name.

    The layouts are:

    - photos: `NAME.jpg` with `NAME.mat`, which holds `pt3d_68` and `Pose_Para`. Crops are cut from
      the photos as the official ones were.
    - arrays, as in 3DDFA, 2DASL and SynergyNet: `AFLW2000-3D.pts68.npy`, `AFLW2000-3D.pose.npy`,
      `AFLW2000-3D_crop.roi_box.npy`, `AFLW2000-3D_crop.list` and the folder `AFLW2000-3D_crop`.

    With both, points and crops come from the arrays.

    Raises:
        EvaluationError: there is neither, or a file is missing or damaged.
    """
    if not folder.is_dir():
        raise EvaluationError(
            f"{folder} is not a folder. Name the folder of AFLW2000-3D with --data."
        )
    photos = {
        path.stem: path
        for path in sorted(folder.rglob("*.jpg"))
        if path.with_suffix(".mat").exists()
    }
    if next(folder.rglob(_POINTS), None) is not None:
        return _read_arrays(folder, photos)
    if not photos:
        raise EvaluationError(
            f"{folder} holds neither photos with .mat files (NAME.jpg and NAME.mat) nor the file "
            f"{_POINTS}. Name the folder of AFLW2000-3D with --data."
        )
    return [_read_photo(path) for path in photos.values()]


def official_box(landmarks68: Float[np.ndarray, "68 2"]) -> Box:
    """Return the box of the official crop around points that are counted from 1.

    It is a square whose side is the diagonal of the square around the points, as in
    `benchmark/benchmarkCrop.m` of 3DDFA. Its pixels are counted from 1, both ends included.
    """
    low, high = landmarks68.min(0), landmarks68.max(0)
    side = float((high - low).max()) * np.sqrt(2)
    left, top = (_rounded(value) for value in (low + high) / 2 - side / 2)
    return left, top, _rounded(left + side), _rounded(top + side)


def cut(photo: Pixels, box: Box) -> UInt8[np.ndarray, "S S 3"]:
    """Return the official crop: the box, black where it leaves the photo, resized to CROP_SIZE."""
    with Image.fromarray(photo) as image:
        part = image.crop(box)
        return np.array(part.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC))


def _rounded(value: float) -> int:
    """Return the nearest integer; halves go away from zero, as in MATLAB."""
    return int(np.sign(value) * np.floor(abs(value) + 0.5))


def _from_matlab_points(points: Float[np.ndarray, "K 68"]) -> Float[np.ndarray, "68 2"]:
    """Return points in our pixels; MATLAB has the centre of the first pixel at 1, we at 0.5."""
    return points[:2].T.astype(np.float64) - 0.5


def _from_matlab_box(box: Any) -> Box:
    """Return the edges of a box of pixels that are counted from 1, both ends included."""
    left, top, right, bottom = (int(value) for value in box)
    return left - 1, top - 1, right, bottom


def _read_photo(path: Path) -> Aflw2000Face:
    about = path.with_suffix(".mat")
    try:
        values = loadmat(about, variable_names=["pt3d_68", "Pose_Para"])
        points = np.asarray(values["pt3d_68"], np.float64)
        pitch_yaw_roll = np.asarray(values["Pose_Para"], np.float64).reshape(-1)
        yaw = abs(float(np.degrees(pitch_yaw_roll[1])))
    except (*_DAMAGED, KeyError, IndexError) as error:
        raise EvaluationError(
            f"Cannot read {about}: {error!r}. Expected a MATLAB file with pt3d_68 and Pose_Para."
        ) from error
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] != 68:
        raise EvaluationError(f"{about}: pt3d_68 has shape {points.shape}; expected 3 x 68.")
    box = _from_matlab_box(official_box(points[:2].T))
    return Aflw2000Face(
        path.stem,
        _from_matlab_points(points),
        yaw,
        box,
        lambda: _pixels(path),
        lambda: cut(_pixels(path), box),
    )


def _read_arrays(folder: Path, photos: dict[str, Path]) -> list[Aflw2000Face]:
    points, yaws, boxes = (_array(folder, name) for name in (_POINTS, _YAWS, _BOXES))
    names = _one(folder, _NAMES).read_text("utf-8").split()
    crops = _one(folder, _CROPS)
    counts = {_NAMES: len(names), _POINTS: len(points), _YAWS: len(yaws), _BOXES: len(boxes)}
    if len(set(counts.values())) > 1:
        raise EvaluationError(f"The files of {folder} have different numbers of faces: {counts}.")
    if points.ndim != 3 or points.shape[1] < 2 or points.shape[2] != 68 or boxes.shape[1:] != (4,):
        raise EvaluationError(
            f"{_POINTS} has shape {points.shape} and {_BOXES} {boxes.shape}; expected N x 2 x 68 or "
            "N x 3 x 68, and N x 4."
        )
    faces = list[Aflw2000Face]()
    for name, truth, yaw, box in zip(
        names, points, yaws.reshape(len(names), -1), boxes, strict=True
    ):
        path = crops / name
        photo = photos.get(Path(name).stem)
        faces.append(
            Aflw2000Face(
                Path(name).stem,
                _from_matlab_points(truth),
                abs(float(yaw[0])),
                _from_matlab_box(box),
                None if photo is None else lambda photo=photo: _pixels(photo),
                lambda path=path: _pixels(path),
            )
        )
    return sorted(faces, key=lambda face: face.key)


def _array(folder: Path, name: str) -> np.ndarray:
    path = _one(folder, name)
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EvaluationError(f"Cannot read {path}: {error}. Expected a plain array.") from error


def _one(folder: Path, name: str) -> Path:
    """Return the first file or folder of this name in a folder or in its subfolders."""
    found = next(iter(sorted(folder.rglob(name))), None)
    if found is None:
        raise EvaluationError(
            f"{folder} holds {_POINTS}, but no {name}. Name a complete folder with --data."
        )
    return found


def _pixels(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise EvaluationError(f"Cannot read {path}: {error}.") from error
