"""`lifemask reconstruct`: photos in; for each face a 3D head, its numbers and a preview out."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from lifemask.cli.exit_codes import USAGE

_FORMATS = ("glb", "obj", "ply")


@dataclass(frozen=True)
class Reconstruct:
    """Turn photos of faces into 3D heads.

    Writes NAME.glb, NAME.json and NAME_preview.png for each photo, or NAME_1.glb and so on where
    it shows several faces. Prints the files written, one per line. A photo that fails is reported,
    and the others go on.
    """

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos: JPEG, PNG, WebP, TIFF, HEIC and others."""
    output: Path
    """Folder for the results; created if needed."""
    quality: Literal["fast", "full"] = "full"
    """fast takes shape from points alone; full from the colours of the photo too."""
    format: str = "glb"
    """Mesh formats, separated by commas: glb, obj, ply."""
    faces: Literal["all", "largest"] = "all"
    """Which faces of a photo."""
    crop: bool = False
    """The whole photo is one face: do not search, always answer."""
    texture_size: int | None = None
    """Texels a side, a multiple of 512 up to 8192; by default 2048 to 8192, as the photo needs."""
    arrays: bool = False
    """Also write NAME.npz: meshes and per-pixel maps."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda, cuda:1, mps."""
    json: bool = False
    """Print one JSON object per photo instead of file names."""

    def run(self) -> int:
        """Reconstruct all photos and return the exit code."""
        if not self.formats or not set(self.formats) <= set(_FORMATS):
            known = ", ".join(_FORMATS)
            print(f"Cannot write --format {self.format!r}. Known: {known}.", file=sys.stderr)
            return USAGE
        if self.texture_size is not None and self.texture_size not in range(512, 8193, 512):
            print(
                f"Cannot make a texture of {self.texture_size} texels a side; --texture-size is a "
                "multiple of 512 up to 8192.",
                file=sys.stderr,
            )
            return USAGE
        if not self.photos:
            print("No photo. Try: lifemask reconstruct a.jpg --output heads", file=sys.stderr)
            return USAGE
        from lifemask.cli.photo_work import reconstruct_photos

        return reconstruct_photos(self)

    @property
    def formats(self) -> tuple[str, ...]:
        """Suffixes of the meshes to write."""
        return tuple(name.strip().lower() for name in self.format.split(",") if name.strip())
