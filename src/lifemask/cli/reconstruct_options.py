"""Options of `lifemask reconstruct`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class ReconstructOptions:
    """Photos, where the results go, and how to make them."""

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos: JPEG, PNG, WebP, TIFF, HEIC and others."""
    output: Path
    """Folder for the results; created if needed."""
    quality: Literal["fast", "full"] = "full"
    """fast takes shape from points alone; full from the colours of the photo too."""
    format: str = "glb"
    """Mesh formats, separated by commas: glb, obj, ply, usdz. usdz needs the extra `usd`."""
    faces: Literal["all", "largest"] = "all"
    """Which faces of a photo."""
    crop: bool = False
    """The whole photo is one face: no search, always a result."""
    texture_size: int | None = None
    """Texels a side, a multiple of 512 up to 8192; by default 2048 to 8192, as the photo needs."""
    arrays: bool = False
    """Also write NAME.npz: meshes and per-pixel maps."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda, cuda:1, mps."""
    json: bool = False
    """Print one JSON object per photo instead of file names."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Suffixes of the meshes to write."""
        return tuple(name.strip().lower() for name in self.format.split(",") if name.strip())
