"""The prediction of one program for one photo: the arrays of `lifemask reconstruct --arrays`."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from lifemask.evaluation.config import EvaluationError


@dataclass(frozen=True)
class Prediction:
    """One face in one photo. Every field may be None; figures that need it are then dashes.

    Maps are in the photo's own pixels, or in a crop of it that starts at `offset`.
    """

    vertices_camera: Float[np.ndarray, "V 3"] | None = None
    """The mesh in camera axes (+X right, +Y down, +Z forward), metres."""
    vertices_head: Float[np.ndarray, "V 3"] | None = None
    """The mesh in head axes (+X subject's left, +Y up, +Z out of the face), metres."""
    vertices_neutral: Float[np.ndarray, "V 3"] | None = None
    """The same person without expression, head axes, metres."""
    triangles: Int[np.ndarray, "T 3"] | None = None
    """Vertex indices, counter-clockwise seen from outside."""
    face_vertices: Bool[np.ndarray, "V"] | None = None
    """Which vertices belong to the face; None: all of them."""
    vertices_albedo: Float[np.ndarray, "V 3"] | None = None
    """Linear RGB reflectance at each vertex, hidden ones too."""
    landmarks68: Float[np.ndarray, "68 2"] | None = None
    """68 points that are fixed on the surface, hidden or not, photo pixels."""
    landmarks68_camera: Float[np.ndarray, "68 3"] | None = None
    """The same points in camera axes, metres."""
    landmarks68_outline: Float[np.ndarray, "68 2"] | None = None
    """68 points of iBUG with the jaw on the visible outline, photo pixels."""
    landmarks68_outline_camera: Float[np.ndarray, "68 3"] | None = None
    """The same points in camera axes, metres."""
    aflw21: Float[np.ndarray, "21 2"] | None = None
    """AFLW points on the program's own surface, photo pixels."""
    normals: Float[np.ndarray, "H W 3"] | None = None
    """Unit normals (+x image right, +y up, +z to the viewer); zero where there is no face."""
    normals_coarse: Float[np.ndarray, "H W 3"] | None = None
    """The same without fine detail; None if a program does not tell them apart."""
    mask: Bool[np.ndarray, "H W"] | None = None
    """The pixels of the face."""
    depth: Float[np.ndarray, "H W"] | None = None
    """Distance along the optical axis, metres; zero where there is no face."""
    albedo: Float[np.ndarray, "H W 3"] | None = None
    """Linear RGB reflectance."""
    shading: Float[np.ndarray, "H W 3"] | None = None
    """Linear RGB shading: the rendered colour is albedo times shading."""
    light_sh: Float[np.ndarray, "9 3"] | None = None
    """Spherical harmonics of the light, as in `lifemask.geometry.lighting`."""
    offset: Float[np.ndarray, "2"] | None = None
    """Photo pixel (x, y) of the maps' top-left corner; None: (0, 0)."""

    def keep(self, names: tuple[str, ...]) -> "Prediction":
        """Return the prediction with only the named fields and the offset of its maps."""
        dropped = {f.name: None for f in fields(self) if f.name not in (*names, "offset")}
        return replace(self, **dropped)

    def neutral_face(self) -> Float[np.ndarray, "F 3"] | None:
        """Return the vertices of the face without expression; None if they are missing."""
        if self.vertices_neutral is None or self.face_vertices is None:
            return self.vertices_neutral
        return self.vertices_neutral[self.face_vertices]

    def ibug_points(self) -> Float[np.ndarray, "68 2"] | None:
        """Return the points that are nearest to iBUG's annotations of photos; None without any.

        They are those with the jaw on the outline, or the fixed points of a program that has no others.
        """
        return self.landmarks68 if self.landmarks68_outline is None else self.landmarks68_outline

    def ibug_points_camera(self) -> Float[np.ndarray, "68 3"] | None:
        """Return the same points in camera axes, metres; None without any."""
        outline = self.landmarks68_outline_camera
        return self.landmarks68_camera if outline is None else outline

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the fields that are present."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def map(self, name: str, image_size: tuple[int, int]) -> np.ndarray | None:
        """Return a map over the whole photo, zero outside the predicted crop; None if missing.

        Args:
            name: "normals", "normals_coarse", "mask", "depth", "albedo" or "shading".
            image_size: (height, width) of the photo.

        Raises:
            EvaluationError: the map is not inside the photo.
        """
        crop: np.ndarray | None = getattr(self, name)
        if crop is None:
            return None
        left, top = (0, 0) if self.offset is None else (int(v) for v in np.round(self.offset))
        height, width = crop.shape[:2]
        if left < 0 or top < 0 or top + height > image_size[0] or left + width > image_size[1]:
            raise EvaluationError(
                f"The map {name!r} covers {width} x {height} pixels from ({left}, {top}), outside "
                f"the photo of {image_size[1]} x {image_size[0]}. Write maps in the photo's own "
                "pixels, or a crop of it with its `offset`."
            )
        whole = np.zeros((*image_size, *crop.shape[2:]), crop.dtype)
        whole[top : top + height, left : left + width] = crop
        return whole


_SHAPES: dict[str, tuple[int | None, ...]] = {
    "vertices_camera": (None, 3),
    "vertices_head": (None, 3),
    "vertices_neutral": (None, 3),
    "triangles": (None, 3),
    "face_vertices": (None,),
    "vertices_albedo": (None, 3),
    "landmarks68": (68, 2),
    "landmarks68_camera": (68, 3),
    "landmarks68_outline": (68, 2),
    "landmarks68_outline_camera": (68, 3),
    "aflw21": (21, 2),
    "normals": (None, None, 3),
    "normals_coarse": (None, None, 3),
    "mask": (None, None),
    "depth": (None, None),
    "albedo": (None, None, 3),
    "shading": (None, None, 3),
    "light_sh": (9, 3),
    "offset": (2,),
}


# The names that only lifemask writes all together, and those whose meaning schema 2 changed.
_FIRST_SCHEMA = {"landmarks68_camera", "vertices_neutral", "vertices_albedo", "light_sh", "offset"}
_OUTLINE = {
    "landmarks68": "landmarks68_outline",
    "landmarks68_camera": "landmarks68_outline_camera",
}


def prediction_from_arrays(arrays: Mapping[str, np.ndarray], *, source: str) -> Prediction:
    """Return the prediction in named arrays; names that are not fields are ignored.

    Grey albedo and shading (H, W) are repeated over the three channels. Arrays that lifemask wrote
    before their schema 2 have the outline as `landmarks68`; it becomes `landmarks68_outline`.

    Args:
        arrays: arrays by field name, of any float, integer or boolean type.
        source: name of the arrays in error messages, such as a file name.

    Raises:
        EvaluationError: an array has a wrong shape, or no known field is present.
    """
    if arrays.keys() >= _FIRST_SCHEMA and "schema" not in arrays:
        arrays = {_OUTLINE.get(name, name): value for name, value in arrays.items()}
    found: dict[str, np.ndarray] = {}
    for name, shape in _SHAPES.items():
        if name not in arrays:
            continue
        value = np.asarray(arrays[name])
        if name in ("albedo", "shading") and value.ndim == 2:
            value = np.repeat(value[..., None], 3, axis=-1)
        right = value.ndim == len(shape) and all(
            want is None or want == have for want, have in zip(shape, value.shape, strict=True)
        )
        if not right:
            wanted = " x ".join("any" if n is None else str(n) for n in shape)
            raise EvaluationError(f"{source}: {name!r} has shape {value.shape}; expected {wanted}.")
        if name in ("mask", "face_vertices"):
            value = value.astype(bool)
        elif name == "triangles":
            value = value.astype(np.int64)
        elif not np.issubdtype(value.dtype, np.floating):
            value = value.astype(np.float32)
        found[name] = value
    if not found.keys() - {"offset"}:
        raise EvaluationError(
            f"{source} holds none of the known arrays. Known: {', '.join(_SHAPES)}; "
            f"found: {', '.join(arrays) or 'nothing'}."
        )
    return Prediction(**found)  # pyright: ignore[reportArgumentType]  # shapes were checked above


def read_prediction(path: Path) -> Prediction:
    """Return the prediction in a NumPy `.npz` file. Pickled content is refused.

    Raises:
        EvaluationError: the file is no `.npz`, has pickled content, wrong shapes or no known array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            known = (*_SHAPES, "schema")
            arrays = {name: archive[name] for name in archive.files if name in known}
            names = archive.files
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise EvaluationError(
            f"Cannot read {path}: {error}. Expected a NumPy .npz of plain arrays."
        ) from error
    return prediction_from_arrays(arrays or dict.fromkeys(names, np.zeros(0)), source=str(path))
