"""Wavefront OBJ with its material file and textures, for programs without newer formats.

OBJ has no morph targets: the head is written with the expression of the photo. Points on texture
seams are not repeated. The material file has the classic entries and those of the PBR extension
(`norm`, `Pr`, `Pm`, `map_Pr`); `map_Bump` repeats the normal map, because Blender reads it there.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from lifemask.io.files import plain_name, write_bytes
from lifemask.io.scenes import Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import faces
from lifemask.io.texture_files import texture_names, write_textures

_KEYWORDS = {"colour": "map_Kd", "normal": "norm", "roughness": "map_Pr"}
"""Keywords of a material file for the uses of textures. There is none for occlusion."""


def write_obj(path: str | os.PathLike[str], scene: Scene) -> list[Path]:
    """Write a scene as OBJ with `NAME.mtl` and `NAME_MATERIAL_….png|jpg` beside it.

    Returns:
        All files; the OBJ is the first in the list, and is written last.

    Raises:
        OutputError: a file cannot be written.
    """
    path = Path(path)
    surfaces = scene.at_rest()
    materials = list(dict.fromkeys(s.material for _, s in surfaces if s.material is not None))
    names = dict(zip(materials, _distinct([m.name for m in materials]), strict=True))
    textures = write_textures(path.parent, path.stem, materials, list(names.values()))
    entries = [f"# {line}" for line in scene.copyright.splitlines()]
    for material, name in names.items():
        entries += _material_lines(name, material, textures.names[material])
    library = path.with_name(f"{plain_name(path.stem)}.mtl")
    write_bytes(library, ("\n".join(entries) + "\n").encode())
    write_bytes(path, _obj_text(surfaces, names, scene.copyright, library.name).encode())
    return [path, library, *textures.written]


def obj_files(stem: str, materials: Sequence[str]) -> list[str]:
    """Return the names of all files that `write_obj` may write; some may not be needed.

    Args:
        stem: name of the OBJ file without suffix.
        materials: names of the materials of the scene.
    """
    return [f"{stem}.obj", f"{plain_name(stem)}.mtl", *texture_names(stem, materials)]


def _obj_text(
    surfaces: list[tuple[str, Surface]],
    names: dict[SurfaceMaterial, str],
    notice: str,
    library: str,
) -> str:
    lines = [f"# {line}" for line in notice.splitlines()] + [f"mtllib {library}"]
    labels = _distinct([name for name, _ in surfaces])
    points, places, directions = 1, 1, 1
    for label, (_, surface) in zip(labels, surfaces, strict=True):
        lines.append(f"o {label}")
        lines += _rows("v", surface.positions)
        corners = [surface.triangles + points]
        points += len(surface.positions)
        if surface.uv is not None:
            lines += _rows("vt", surface.uv * (1.0, -1.0) + (0.0, 1.0))
            triangles = surface.uv_triangles
            corners.append((surface.triangles if triangles is None else triangles) + places)
            places += len(surface.uv)
        if surface.normals is not None:
            lines += _rows("vn", surface.normals)
            corners.append(surface.triangles + directions)
            directions += len(surface.normals)
        if surface.material is not None:
            lines.append(f"usemtl {names[surface.material]}")
        separator = "//" if surface.uv is None else "/"
        lines += _faces([faces(part, quads=surface.quads) for part in corners], separator)
    return "\n".join(lines) + "\n"


def _rows(keyword: str, values: Shaped[np.ndarray, "N C"]) -> Iterator[str]:
    pattern = keyword + " %.7g" * values.shape[1]
    return (pattern % tuple(row) for row in values.tolist())


def _faces(corners: Sequence[Shaped[np.ndarray, "F N"]], separator: str) -> Iterator[str]:
    """Return a line for each face; each array holds one kind of index."""
    corner = separator.join(["%d"] * len(corners))
    pattern = "f" + f" {corner}" * corners[0].shape[1]
    rows = np.stack(corners, axis=-1).reshape(len(corners[0]), -1)
    return (pattern % tuple(row) for row in rows.tolist())


def _material_lines(name: str, material: SurfaceMaterial, images: dict[str, str]) -> list[str]:
    red, green, blue, opacity = material.base_colour
    lines = [
        f"newmtl {name}",
        f"Kd {red:g} {green:g} {blue:g}",
        f"d {opacity:g}",
        "Ks 0.04 0.04 0.04",
        "illum 2",
        f"Pr {material.roughness:g}",
        f"Pm {material.metallic:g}",
    ]
    lines += [f"{_KEYWORDS[use]} {file}" for use, file in images.items() if use in _KEYWORDS]
    if "normal" in images:
        lines.append(f"map_Bump -bm 1 {images['normal']}")
    if material.alpha_mode != "OPAQUE" and "colour" in images:
        lines.append(f"map_d {images['colour']}")
    return lines


def _distinct(names: list[str]) -> list[str]:
    result: list[str] = []
    for name in map(plain_name, names):
        number, free = 2, name
        while free in result:
            free, number = f"{name}_{number}", number + 1
        result.append(free)
    return result
