"""Options of `lifemask reconstruct`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class ReconstructOptions:
    """Photos, the folder for results, and how to make them."""

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos (JPEG, PNG, WebP, TIFF, HEIC and others), folders of photos, patterns like '*.jpg', or
    - for a photo on the standard input."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; created if needed."""
    quality: Literal["fast", "full"] = "full"
    """fast fits the shape to landmarks only; full also fits it to the colours of the photo, and adds wrinkles."""
    system: str | None = None
    """The system that predicts each face before the fit; default: flagship."""
    format: str = "glb"
    """Mesh formats, separated by commas: glb, obj, ply, stl, usdz. usdz needs the extra `usd`."""
    neutral: bool = False
    """Write heads without the expression of the photo."""
    faces: Literal["all", "largest"] = "all"
    """Which faces of a photo to reconstruct."""
    crop: bool = False
    """The whole photo is one face: always a result, with a warning if no face convinces."""
    texture_size: int | None = None
    """Texels per side, a multiple of 512 up to 8192; default: 2048 to 8192, depending on the photo."""
    textures: bool = False
    """Also write the textures as pictures: NAME_Skin_colour.jpg, the relief in 16 bits, and others."""
    detail: Literal["map", "mesh"] = "map"
    """Where the meshes have the relief of the skin: in a normal map, or in finer triangles."""
    preview: bool = True
    """Whether to write NAME_preview.png."""
    hair: str = "auto"
    """auto follows the photo where it shows the hair; none only paints it on the scalp; shell; or a mesh."""
    arrays: bool = False
    """Also write NAME.npz: meshes and per-pixel maps."""
    overwrite: bool = False
    """Replace files in the folder that are not earlier results of the same photo."""
    skip_existing: bool = False
    """Leave out photos whose results are already in the folder, whatever options made them."""
    jobs: int = 1
    """How many photos to reconstruct at the same time, each in a process with its own memory."""
    strict: bool = False
    """Exit with code 4 if a result has a warning, because it may be wrong."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda, cuda:1, mps."""
    runtime: Literal["torch", "onnxruntime"] = "torch"
    """onnxruntime is faster on a CPU; it needs the extra `onnx`."""
    json: bool = False
    """Print one JSON object per photo instead of file names."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Suffixes of the meshes to write."""
        return tuple(name.strip().lower() for name in self.format.split(",") if name.strip())
