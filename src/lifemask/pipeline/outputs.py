"""Names of all files to which a reconstructed face may be written."""

from collections.abc import Sequence

from lifemask.io.obj import obj_files

SKIN, EYES, LASHES, HAIR = "Skin", "Eyes", "Lashes", "Hair"
"""Names of the materials of a head; OBJ's textures are named after them."""
FORMATS = ("glb", "obj", "ply", "usdz")
"""Suffixes of the formats of heads."""


def face_files(stem: str, formats: Sequence[str], *, arrays: bool) -> list[str]:
    """Return the names of all files that may be written for one face; some may not be needed.

    Args:
        stem: name without suffix.
        formats: some of `FORMATS`.
        arrays: whether the arrays are written too.
    """
    names = [f"{stem}.json", f"{stem}_preview.png"]
    for suffix in formats:
        surfaces = (SKIN, EYES, LASHES, HAIR)
        names += obj_files(stem, surfaces) if suffix == "obj" else [f"{stem}.{suffix}"]
    return [*names, f"{stem}.npz"] if arrays else names
