"""One reconstructed face, with methods for its pictures, files and arrays."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.environments import Environment, checked_environment
from lifemask.geometry.lighting import SphericalHarmonicsLight, checked_light
from lifemask.geometry.precision import single_precision
from lifemask.io.files import atomic_write
from lifemask.pipeline.arrays import face_arrays, write_arrays
from lifemask.pipeline.document import face_document
from lifemask.pipeline.export import write_head, write_head_textures
from lifemask.pipeline.outputs import Detail
from lifemask.pipeline.photo_rendering import draw_in_photo
from lifemask.pipeline.preview import preview_sheet
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.pipeline.relighting import relit_photo
from lifemask.rendering import Rendering
from lifemask.rendering.heads import render_head

_CLAY = 0.55
"""Linear grey of the clay."""


@dataclass(frozen=True)
class FaceReconstruction(ReconstructedHead):
    """A person's head as seen in one photo."""

    @single_precision()
    def render(
        self,
        *,
        camera: PerspectiveCamera | None = None,
        light: SphericalHarmonicsLight | None = None,
        clay: bool = False,
    ) -> Rendering:
        """Draw the head, without its hair.

        Args:
            camera: the photo's own by default; its `image_size` is the picture's size.
            light: the photo's own by default.
            clay: grey instead of the person's colours.

        Raises:
            ValueError: the light is not 9 x 3 finite numbers.
        """
        light = None if light is None else checked_light(light)
        if camera is None:
            drawn = draw_in_photo(self, light)
        else:
            # A light map belongs to the photo's light.
            surface = self.surface if light is None else self.surface.without_light_map()
            drawn = render_head(surface, camera, light or self.light).fine
        if not clay:
            return drawn
        albedo = _CLAY * drawn.mask.expand_as(drawn.albedo)
        return replace(drawn, albedo=albedo, colour=albedo * drawn.shading)

    @single_precision()
    def relight(self, light: SphericalHarmonicsLight | Environment) -> Image.Image:
        """Return the photo with the head in another light; its surroundings change by the average.

        Args:
            light: in the camera's axes. In an `Environment`, the head shades itself.

        Raises:
            ValueError: the light is not made of finite numbers, or they are too many or too few.
        """
        if isinstance(light, Environment):
            return Image.fromarray(relit_photo(self, checked_environment(light)))
        return Image.fromarray(relit_photo(self, checked_light(light)))

    @single_precision()
    def preview(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return one picture: photo, overlay, clay, albedo, lit from the left and the right."""
        return preview_sheet(self)

    @single_precision()
    def save(
        self, path: str | os.PathLike[str], *, neutral: bool = False, detail: Detail = "map"
    ) -> None:
        """Write the head as GLB, OBJ (with its textures beside it), PLY, STL or USDZ, by the suffix.

        Args:
            path: the file.
            neutral: write it without the photo's expression.
            detail: `map` writes the relief of the skin as a normal map, `mesh` as finer triangles.

        Raises:
            ValueError: if the suffix is none of these, or the detail is unknown.
            ImportError: if a USDZ file needs the extra `usd`, which is not installed.
            OutputError: if the file cannot be written; nothing half-written is left.
        """
        write_head(path, self, neutral=neutral, detail=detail)

    @single_precision()
    def save_textures(self, folder: str | os.PathLike[str], stem: str) -> list[Path]:
        """Write the textures as `STEM_MATERIAL_USE.png|jpg`, and return the files.

        If the head has a relief, `STEM_Skin_displacement.png` holds it in 16 bits.

        Raises:
            OutputError: if a file cannot be written.
        """
        return write_head_textures(folder, stem, self)

    @single_precision()
    def to_json_dict(self) -> dict[str, Any]:
        """Return everything but images and meshes, ready for JSON; see docs/output.md."""
        return face_document(self)

    @single_precision()
    def arrays(self) -> dict[str, np.ndarray]:
        """Return meshes and per-pixel maps as plain arrays; see docs/output.md."""
        return face_arrays(self)

    @single_precision()
    def save_arrays(self, path: str | os.PathLike[str]) -> None:
        """Write `arrays` as a compressed NPZ file, with little memory however large the photo.

        Raises:
            OutputError: if the file cannot be written; nothing half-written is left.
        """
        with atomic_write(path) as file:
            write_arrays(file, self)
