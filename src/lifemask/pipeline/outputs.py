"""Names of all files to which a reconstructed face may be written."""

from collections.abc import Sequence
from typing import Literal

from lifemask.io.files import plain_name
from lifemask.io.obj import obj_files
from lifemask.io.texture_files import texture_names

SKIN, EYES, TEETH, TONGUE, LASHES = "Skin", "Eyes", "Teeth", "Tongue", "Lashes"
HAIR = "Hair"
"""Names of the materials of a head; OBJ's textures are named after them."""
MATERIALS = (SKIN, EYES, TEETH, TONGUE, LASHES, HAIR)
FORMATS = ("glb", "obj", "ply", "stl", "usdz")
"""Suffixes of the formats of heads."""
Detail = Literal["map", "mesh"]
"""Where files have the relief of the skin: in the normal map, or in finer triangles."""


def face_files(
    stem: str, formats: Sequence[str], *, arrays: bool, textures: bool = False
) -> list[str]:
    """Return the names of all files that may be written for one face; some may not be needed.

    Args:
        stem: name without suffix.
        formats: some of `FORMATS`.
        arrays: whether the arrays are written too.
        textures: whether the textures are written too.
    """
    names = [f"{stem}.json", f"{stem}_preview.png"]
    for suffix in formats:
        names += obj_files(stem, MATERIALS) if suffix == "obj" else [f"{stem}.{suffix}"]
    names += texture_names(stem, MATERIALS) if textures and "obj" not in formats else []
    names += [displacement_name(stem)] if textures else []
    return [*names, f"{stem}.npz"] if arrays else names


def displacement_name(stem: str) -> str:
    """Return the name of the picture of the relief."""
    return f"{plain_name(stem)}_{SKIN}_displacement.png"
