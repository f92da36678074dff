"""Options of `lifemask reconstruct`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class ReconstructOptions:
    """Photos, the folder for results, and how to make them."""

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos: JPEG, PNG, WebP, TIFF, HEIC and others; patterns like '*.jpg' are allowed."""
    output: Path
    """Folder for the results; created if needed."""
    quality: Literal["fast", "full"] = "full"
    """fast fits the shape to landmarks only; full also fits it to the colours of the photo."""
    system: str | None = None
    """The system that predicts each face before the fit; default: dense_landmarks."""
    format: str = "glb"
    """Mesh formats, separated by commas: glb, obj, ply, usdz. usdz needs the extra `usd`."""
    faces: Literal["all", "largest"] = "all"
    """Which faces of a photo to reconstruct."""
    crop: bool = False
    """The whole photo is one face: always a result, with a warning if no face convinces."""
    texture_size: int | None = None
    """Texels per side, a multiple of 512 up to 8192; default: 2048 to 8192, depending on the photo."""
    hair: str = "auto"
    """auto follows the photo where it shows the hair; none only paints it on the scalp; shell; or a mesh."""
    arrays: bool = False
    """Also write NAME.npz: meshes and per-pixel maps."""
    overwrite: bool = False
    """Replace files in the folder that are not earlier results of the same photo."""
    strict: bool = False
    """Exit with code 4 if a result has a warning, because it may be wrong."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda, cuda:1, mps."""
    json: bool = False
    """Print one JSON object per photo instead of file names."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Suffixes of the meshes to write."""
        return tuple(name.strip().lower() for name in self.format.split(",") if name.strip())
