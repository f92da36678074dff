"""A reconstruction as plain arrays: meshes, and maps in the photo's own pixels."""

import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.head_surface import vertex_uv
from lifemask.pipeline.document import SCHEMA_VERSION
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.rendering import sample_texture
from lifemask.rendering.heads import HeadImages, head_vertices, render_head
from lifemask.rendering.image_normals import normals_at_pixels

_MEGAPIXELS_FOR_WHOLE_PHOTO = 4.0
_PIXELS_AT_ONCE = 2_000_000
_MAPS: dict[str, Callable[[HeadImages], Tensor]] = {
    "normals": lambda drawn: drawn.fine.normals.permute(1, 2, 0),
    "normals_coarse": lambda drawn: (drawn.coarse_normals * drawn.fine.mask).permute(1, 2, 0),
    "mask": lambda drawn: drawn.fine.mask > 0,
    "depth": lambda drawn: drawn.fine.depth,
    "albedo": lambda drawn: drawn.fine.albedo.permute(1, 2, 0),
    "shading": lambda drawn: (drawn.fine.shading * drawn.fine.mask).permute(1, 2, 0),
}
"""The maps: one value per pixel, rows first."""


def face_arrays(face: ReconstructedHead) -> dict[str, np.ndarray]:
    """Return meshes in metres and per-pixel maps.

    Maps cover the photo; above four megapixels, only the box of the head. `offset` is (x, y) of
    their top left corner in photo pixels. Normals are +x right, +y up, +z to the viewer; albedo and
    shading are linear RGB; all are zero outside the head's mask.
    """
    left, top, view = _view(face)
    strips = [
        [_plain(values(drawn)) for values in _MAPS.values()]
        for drawn in _strips(face, left, top, view)
    ]
    maps = [np.concatenate(parts) for parts in zip(*strips, strict=True)]
    return _small_arrays(face, left, top) | dict(zip(_MAPS, maps, strict=True))


def write_arrays(file: BinaryIO, face: ReconstructedHead) -> None:
    """Write what `face_arrays` returns as an NPZ file, with little memory however large the photo.

    Maps are drawn a strip at a time, once for each map.
    """
    left, top, view = _view(face)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in _small_arrays(face, left, top).items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        for name, values in _MAPS.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for index, drawn in enumerate(_strips(face, left, top, view)):
                    strip = _plain(values(drawn))
                    if index == 0:
                        _write_header(member, strip, rows=view.image_size[0])
                    member.write(strip.tobytes())


def _write_header(member: Any, strip: np.ndarray, *, rows: int) -> None:
    header = np.lib.format.header_data_from_array_1_0(strip)
    header["shape"] = (rows, *strip.shape[1:])
    np.lib.format.write_array_header_1_0(member, header)


def _view(face: ReconstructedHead) -> tuple[int, int, PerspectiveCamera]:
    """Return the corner of the maps in the photo, and the camera that sees just them."""
    camera = face.camera
    height, width = camera.image_size
    left, top, right, bottom = 0, 0, width, height
    if height * width > _MEGAPIXELS_FOR_WHOLE_PHOTO * 1e6:
        points = camera.project(face.mesh.vertices)[:, :2]
        low, high = points.amin(0).floor().tolist(), points.amax(0).ceil().tolist()
        left, top = max(0, int(low[0])), max(0, int(low[1]))
        right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    return left, top, camera.cropped(left, top, (bottom - top, right - left))


def _strips(
    face: ReconstructedHead, left: int, corner: int, view: PerspectiveCamera
) -> Iterator[HeadImages]:
    """Draw the head from the top, in strips of at most so many pixels."""
    height, width = view.image_size
    depth, refined = face.face.depth, face.face.normals

    def normals(first: int, last: int) -> Tensor | None:
        if refined is None:
            return None
        return normals_at_pixels(refined, (last - first, width), left=left, top=corner + first)

    rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if depth is None:
            strip = view.cropped(0, top, (bottom - top, width))
            yield render_head(face.surface, strip, face.light, normals=normals(top, bottom))
            continue
        # Normals from depth need a row more on either side.
        first, last = max(top - 1, 0), min(bottom + 1, height)
        strip = view.cropped(0, first, (last - first, width))
        part = depth[corner + first : corner + last, left : left + width]
        drawn = render_head(
            face.surface, strip, face.light, depth=part, normals=normals(first, last)
        )
        kept = slice(top - first, bottom - first)
        yield map_tensors(lambda image, kept=kept: image[..., kept, :], drawn)


def _small_arrays(face: ReconstructedHead, left: int, top: int) -> dict[str, np.ndarray]:
    """Return everything but the maps."""
    model, camera, vertices = face.model, face.camera, face.mesh.vertices
    fixed, outline = face.landmarks68(), face.landmarks68_outline()
    arrays = {
        "vertices_camera": camera.to_camera(vertices),
        "vertices_head": vertices,
        "vertices_neutral": head_vertices(model, face.face, face.neutral_coefficients),
        "triangles": model.triangles.int(),
        "face_vertices": model.regions["face"] > 0.5,
        "vertices_albedo": _vertex_colours(face),
        "landmarks68": camera.project(fixed)[:, :2],
        "landmarks68_camera": camera.to_camera(fixed),
        "landmarks68_outline": camera.project(outline)[:, :2],
        "landmarks68_outline_camera": camera.to_camera(outline),
        "light_sh": face.light.coefficients,
    }
    if model.aflw21 is not None:
        points = model.aflw21.points(vertices, model.triangles)
        arrays["aflw21"] = camera.project(points)[:, :2]
    if face.surface.displacement is not None:
        arrays["displacement"] = face.surface.displacement
    as_numpy = {name: _plain(values) for name, values in arrays.items()}
    return as_numpy | {
        "offset": np.array([left, top], np.float32),
        "schema": np.array(SCHEMA_VERSION),
    }


def _plain(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.numpy())


def _vertex_colours(face: ReconstructedHead) -> Float[Tensor, "V 3"]:
    """Return the texture at each vertex; on a seam, from one of its sides."""
    uv = vertex_uv(face.model)
    return sample_texture(face.texture.albedo, uv.T[:, None])[:, 0].T
