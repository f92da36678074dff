"""The result of every importer: the parts of a morphable model, in metres and head axes.

Head axes: +X to the subject's left, +Y up, +Z out of the face, origin midway between the centres
of the two eyeballs of the mean head.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray

# Distance from the lid corners straight back to the centre of an eyeball of 24 mm.
EYE_DEPTH_METRES = 0.013


class ModelFileError(ValueError):
    """A model file cannot be read; the message says what was found, expected and what to do."""


@dataclass(frozen=True)
class ImportedModel:
    """A morphable model read from someone else's file, not yet a torch module."""

    name: str
    """The authors' name of the model, with its version."""
    mean: Float[Array, "V 3"]
    """Mean vertices, metres, head axes."""
    identity_basis: Float[Array, "I V 3"]
    """Identity modes, metres per standard deviation."""
    expression_basis: Float[Array, "E V 3"]
    """Expression modes, metres at weight one."""
    expression_names: tuple[str, ...]
    """Names from the file."""
    triangles: Int[Array, "T 3"]
    """Vertex indices, counter-clockwise from outside."""
    uv: Float[Array, "U 2"]
    """Texture coordinates, origin at the top left, v down."""
    uv_triangles: Int[Array, "T 3"]
    """Indices into `uv`."""
    landmarks68: "PointEmbedding | None" = None
    """iBUG points, if the format contains them."""
    mirror: Int[Array, "V"] | None = None
    """For every vertex its partner on the other side, if the format contains it."""
    regions: Mapping[str, Float[Array, "V"]] = field(default_factory=dict)
    """Vertex weights from 0 to 1 by region name, if the format contains them."""
    notes: tuple[str, ...] = ()
    """Sentences about contents of the file that are left out or approximated."""


@dataclass(frozen=True)
class PointEmbedding:
    """Named points as barycentric points of triangles."""

    triangle_index: Int[Array, "N"]
    """Triangle that holds each point."""
    barycentric: Float[Array, "N 3"]
    """Weights of its corners."""

    def points(
        self, vertices: Float[Array, "V 3"], triangles: Int[Array, "T 3"]
    ) -> Float[Array, "N 3"]:
        """Return the points for these vertices."""
        corners = vertices[triangles[self.triangle_index]]
        return (self.barycentric[..., None] * corners).sum(1)


def embed_vertices(vertices: Int[Array, "N"], triangles: Int[Array, "T 3"]) -> PointEmbedding:
    """Return each vertex as a barycentric point of the first triangle that uses it.

    Raises:
        ValueError: a vertex belongs to no triangle.
    """
    chosen = vertices.astype(np.int64)
    flat = triangles.reshape(-1)
    order = np.argsort(flat, kind="stable")
    slot = np.searchsorted(flat[order], chosen)
    slot = np.minimum(slot, len(order) - 1)
    corner = order[slot]
    missing = chosen[flat[corner] != chosen]
    if len(missing):
        raise ValueError(f"Landmark vertices {missing.tolist()} belong to no triangle.")
    return PointEmbedding(corner // 3, np.eye(3)[corner % 3])


def head_origin(
    mean: Float[Array, "V 3"],
    *,
    eyeball_centres: Float[Array, "2 3"] | None = None,
    landmarks68: Float[Array, "68 3"] | None = None,
) -> tuple[Float[Array, "3"], str | None]:
    """Return the point midway between the eyeball centres, and a note if it is estimated.

    Args:
        mean: vertices in metres, +Z out of the face.
        eyeball_centres: (left, right) in metres; used if given.
        landmarks68: iBUG points in metres; otherwise the eyes are 13 mm behind their lid corners.
    """
    if eyeball_centres is not None:
        return np.asarray(eyeball_centres, dtype=np.float64).mean(0), None
    if landmarks68 is not None:
        corners = landmarks68[[36, 39, 42, 45]].mean(0)
        note = "The eyeball centres are assumed 13 mm behind the corners of the eyes."
        return corners - np.array([0.0, 0.0, EYE_DEPTH_METRES]), note
    note = (
        "The file marks no eyes, so the origin is the centre of the mean face; poses differ from "
        "those of the default head by a translation."
    )
    return (mean.min(0) + mean.max(0)) / 2, note


def cylindrical_uv(
    mean: Float[Array, "V 3"], triangles: Int[Array, "T 3"]
) -> tuple[Float[Array, "U 2"], Int[Array, "T 3"]]:
    """Return texture coordinates around the vertical axis, for a model without its own.

    The seam is at the back of the head; vertices of triangles that cross it get a second
    coordinate.
    """
    low, high = mean.min(0), mean.max(0)
    axis_z = low[2] + 0.35 * (high[2] - low[2])
    around = np.arctan2(mean[:, 0] - (low[0] + high[0]) / 2, mean[:, 2] - axis_z)
    u = around / (2 * np.pi) + 0.5
    v = (high[1] - mean[:, 1]) / max(high[1] - low[1], 1e-12)
    corner_u = u[triangles]
    crosses = corner_u.max(1) - corner_u.min(1) > 0.5
    shifted = np.unique(triangles[crosses][corner_u[crosses] < 0.5])
    second = np.full(len(mean), -1)
    second[shifted] = len(mean) + np.arange(len(shifted))
    uv_triangles = triangles.copy()
    wrap = crosses[:, None] & (corner_u < 0.5)
    uv_triangles[wrap] = second[triangles[wrap]]
    uv = np.stack([np.concatenate([u, u[shifted] + 1]), np.concatenate([v, v[shifted]])], axis=1)
    uv[:, 0] /= max(uv[:, 0].max(), 1.0)
    return uv, uv_triangles


def corner_uv_to_shared(
    corner_uv: Float[Array, "T 3 2"],
) -> tuple[Float[Array, "U 2"], Int[Array, "T 3"]]:
    """Return distinct texture coordinates and indices for coordinates stored per corner."""
    flat = np.ascontiguousarray(corner_uv.reshape(-1, 2))
    uv, inverse = np.unique(flat, axis=0, return_inverse=True)
    return uv, inverse.reshape(-1, 3)


def checked_path(path: str | Path, *, what: str, where: str) -> Path:
    """Return the path of a model file after a check for the usual broken downloads.

    Args:
        path: the user's path.
        what: description of the expected file, for messages.
        where: address of the download, for messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelFileError: the file is empty, a Git LFS or git-annex pointer, or a web page.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No file {path}. Expected {what}; get it from {where}.")
    if path.is_dir():
        return path
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ModelFileError(f"{path.name} is empty. Download {what} again from {where}.")
    if head.startswith(b"version https://git-lfs.github.com"):
        raise ModelFileError(
            f"{path.name} is a Git LFS pointer, not the file itself. Run `git lfs pull` in the "
            f"clone it came from, or download {what} from {where}."
        )
    if b"/annex/objects/" in head[:200]:
        raise ModelFileError(
            f"{path.name} is a git-annex pointer, not the file itself. Run `git annex get` there."
        )
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise ModelFileError(
            f"{path.name} is a web page: the download probably needs a login. Get {what} from "
            f"{where} with a browser."
        )
    return path


def open_arrays(path: Path, *, what: str) -> dict[str, Array]:
    """Return all arrays of an .npz or .safetensors file; pickled objects are never read.

    Raises:
        ModelFileError: the file is damaged or holds pickled objects.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ModelFileError(f"{path.name} is not a readable {what}: {error}.") from error
    try:
        # Numpy does not close a damaged file, so it is opened here.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ModelFileError(f"{path.name} holds one array; expected an .npz with {what}.")
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ModelFileError(
            f"{path.name} is damaged or incomplete ({error}). Download it again."
        ) from error
    except ValueError as error:
        raise ModelFileError(
            f"{path.name} is not a plain array file ({error}). Expected {what}."
        ) from error


def require(arrays: Mapping[str, Any], keys: Iterable[str], *, file: str) -> None:
    """Raise a ModelFileError that names all keys that the file lacks, if there are any."""
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise ModelFileError(
            f"{file} lacks {missing}. It holds {sorted(map(str, arrays))[:20]}: is it the right "
            "file, and complete?"
        )


def require_shape(array: Array, expected: tuple[int | None, ...], *, name: str, file: str) -> Array:
    """Return the array, or raise a ModelFileError if its shape is wrong; None allows any length."""
    fits = array.ndim == len(expected) and all(
        want is None or have == want for have, want in zip(array.shape, expected, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in expected) + ")"
        raise ModelFileError(f"{file}: {name} has shape {array.shape}, expected {wanted}.")
    return array


def require_triangles(triangles: Array, vertex_count: int, *, file: str) -> Int[Array, "T 3"]:
    """Return triangles as int64, or raise a ModelFileError if a vertex does not exist."""
    triangles = np.asarray(triangles).astype(np.int64)
    require_shape(triangles, (None, 3), name="triangles", file=file)
    if len(triangles) == 0 or triangles.min() < 0 or triangles.max() >= vertex_count:
        raise ModelFileError(
            f"{file}: triangles use vertices outside 0..{vertex_count - 1}; the file is damaged "
            "or of another version."
        )
    return triangles


def read_json(path: Path) -> Any:
    """Return parsed JSON, or raise a ModelFileError that says where it is invalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path.name} is not valid JSON: {error}.") from error
