"""`lifemask relight`: draw a reconstructed head with another light."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, USAGE

if TYPE_CHECKING:
    from lifemask.geometry.lighting import SphericalHarmonicsLight

# Azimuth (to the right of the picture) and elevation of the lamp, degrees.
_DIRECTIONS = {
    "left": (-65, 15),
    "right": (65, 15),
    "top": (0, 65),
    "bottom": (0, -55),
    "front": (0, 10),
}


@dataclass(frozen=True)
class Relight:
    """Draw a reconstructed head with another light, in the pose of its photo."""

    head: tyro.conf.Positional[Path]
    """NAME.glb, or NAME.json with NAME.glb beside it."""
    light: str
    """left, right, top, bottom, front or ambient (sides of the picture), or a JSON file of nine
    spherical-harmonic RGB coefficients."""
    output: Path
    """Picture to write: .png (with transparent background) or .jpg."""
    size: int = 1024
    """Pixels per side."""

    def run(self) -> int:
        """Draw and write the picture, and return the exit code."""
        from lifemask.io.files import OutputError, check_writable
        from lifemask.io.gltf_reader import GltfError
        from lifemask.io.images import PhotoError, write_image
        from lifemask.pipeline.light_file import LightFileError
        from lifemask.pipeline.saved import SavedHeadError, read_head

        if self.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            print(f"Cannot write {str(self.output)!r}. Known: .png, .jpg.", file=sys.stderr)
            return USAGE
        if not 16 <= self.size <= 8192:
            print(f"Cannot draw --size {self.size}. Allowed: 16 to 8192.", file=sys.stderr)
            return USAGE
        try:
            check_writable(self.output)
            light = _light(self.light)
            head = read_head(self.head)
            opaque = self.output.suffix.lower() != ".png"
            write_image(self.output, head.draw(light, size=self.size, opaque=opaque))
        except UnknownLightError as error:
            print(error, file=sys.stderr)
            return USAGE
        except (LightFileError, SavedHeadError, GltfError, PhotoError, OutputError) as error:
            print(error, file=sys.stderr)
            return FAILED
        print(self.output)
        return DONE


class UnknownLightError(ValueError):
    """No light and no file has this name."""


def _light(name: str) -> "SphericalHarmonicsLight":
    """Return a light by its name, or from a JSON file.

    Raises:
        UnknownLightError: there is no such name and no such file.
        LightFileError: the file has other contents.
    """
    from lifemask.geometry.lighting import SphericalHarmonicsLight
    from lifemask.pipeline.light_file import LightFileError, read_light

    if name == "ambient":
        return SphericalHarmonicsLight.ambient(0.9)
    if name in _DIRECTIONS:
        azimuth, elevation = (math.radians(angle) for angle in _DIRECTIONS[name])
        return SphericalHarmonicsLight.from_direction(
            azimuth, elevation, strength=0.95, ambient=0.12
        )
    try:
        return read_light(name)
    except FileNotFoundError as error:
        known = f"{', '.join(_DIRECTIONS)}, ambient, or a JSON file of nine RGB coefficients"
        raise UnknownLightError(f"There is no light {name!r}. Known: {known}.") from error
    except OSError as error:
        raise LightFileError(f"Cannot read {name!r}: {error.strerror}.") from error
