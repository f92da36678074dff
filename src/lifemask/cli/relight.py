"""`lifemask relight`: draw a reconstructed head, or a photo, in another light."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, NO_FACE, USAGE

if TYPE_CHECKING:
    import numpy as np

    from lifemask.geometry.environments import Environment
    from lifemask.geometry.lighting import SphericalHarmonicsLight
    from lifemask.pipeline.reconstructor import FaceReconstructor

# Azimuth (to the right of the picture) and elevation of the lamp, degrees.
_DIRECTIONS = {
    "left": (-65, 15),
    "right": (65, 15),
    "top": (0, 65),
    "bottom": (0, -55),
    "front": (0, 10),
}
_SIZE = 1024
_MOST_STOPS = 10
_HEADS = (".glb", ".json")
_PICTURES = (".png", ".jpg", ".jpeg")


class UnknownLightError(ValueError):
    """No light and no file has this name."""


class NoFaceError(ValueError):
    """A photo shows no face that convinces."""


@dataclass(frozen=True)
class Relight:
    """Draw a head, or a photo, in another light. The head shades itself.

    A photo keeps its hair and its background. With --azimuth or --elevation, only the head is drawn.
    Give one of --light, --environment and --like.
    """

    head: tyro.conf.Positional[Path]
    """NAME.glb, NAME.json with NAME.glb beside it, or a photo."""
    output: Path
    """Picture to write: .png (with transparent background, if only the head is drawn) or .jpg."""
    light: str | None = None
    """left, right, top, bottom, front or ambient (sides of the picture), or a JSON file of nine
    spherical-harmonic RGB coefficients."""
    environment: Path | None = None
    """Light from all directions: a panorama by longitude and latitude, .hdr or .exr (extra `exr`)."""
    turn: float | None = None
    """Degrees by which the environment turns to the right; at 0, its middle is behind the head."""
    like: Path | None = None
    """Another photo, whose light is taken."""
    exposure: float = 0.0
    """Brighter (positive) or darker light; 1 is twice as bright."""
    azimuth: float | None = None
    """Side from which only the head is drawn, degrees: 0 front, 90 the left of the person."""
    elevation: float | None = None
    """Height from which only the head is drawn, degrees: 90 is above."""
    size: int | None = None
    """Pixels per side, if only the head is drawn; default: 1024."""

    def run(self) -> int:
        """Draw and write the picture, and return the exit code."""
        from lifemask.io.files import OutputError, check_writable
        from lifemask.io.gltf_reader import GltfError
        from lifemask.io.images import PhotoError, write_image
        from lifemask.io.panoramas import PanoramaError
        from lifemask.pipeline.light_file import LightFileError
        from lifemask.pipeline.saved import SavedHeadError

        if fault := self._fault():
            print(fault, file=sys.stderr)
            return USAGE
        try:
            check_writable(self.output)
            write_image(self.output, self._picture())
        except UnknownLightError as error:
            print(error, file=sys.stderr)
            return USAGE
        except NoFaceError as error:
            print(error, file=sys.stderr)
            return NO_FACE
        except (
            *(LightFileError, PanoramaError, SavedHeadError, GltfError, PhotoError, OutputError),
            ImportError,
        ) as error:
            print(error, file=sys.stderr)
            return FAILED
        print(self.output)
        return DONE

    @property
    def _is_photo(self) -> bool:
        return self.head.suffix.lower() not in _HEADS

    @property
    def _is_head_alone(self) -> bool:
        return not self._is_photo or self.azimuth is not None or self.elevation is not None

    def _fault(self) -> str:
        """Return what is wrong with the options, or an empty text."""
        lights = {"--light": self.light, "--environment": self.environment, "--like": self.like}
        given = [name for name, value in lights.items() if value is not None]
        angles = (self.turn or 0.0, self.azimuth or 0.0, self.elevation or 0.0)
        if self.output.suffix.lower() not in _PICTURES:
            return f"Cannot write {str(self.output)!r}. Known: .png, .jpg."
        if self.output.exists() and any(
            path is not None and path.exists() and path.samefile(self.output)
            for path in (self.head, self.environment, self.like)
        ):
            return (
                f"{str(self.output)!r} would replace what it is made of. Choose another --output."
            )
        if len(given) != 1:
            came = " and ".join(given) or "no light"
            return f"Got {came}. Give one of --light, --environment and --like."
        if self.turn is not None and self.environment is None:
            return f"Got --turn with {given[0]}. It turns an --environment; leave it out."
        if self.size is not None and not self._is_head_alone:
            return (
                "Got --size with a photo, which keeps its size. Leave it out, or add --azimuth 0 to "
                "draw the head alone."
            )
        if self.size is not None and not 16 <= self.size <= 8192:
            return f"Cannot draw --size {self.size}. Allowed: 16 to 8192."
        if not all(abs(angle) <= 360 for angle in angles):
            return (
                "Cannot turn that far. Allowed for --turn, --azimuth and --elevation: -360 to 360."
            )
        if not abs(self.exposure) <= _MOST_STOPS:
            return f"Cannot draw --exposure {self.exposure:g}. Allowed: -{_MOST_STOPS} to {_MOST_STOPS}."
        return ""

    def _picture(self) -> "np.ndarray":
        """Draw the photo or the head.

        Raises:
            UnknownLightError, NoFaceError: there is no such light; a photo shows no face.
            LightFileError, PanoramaError, SavedHeadError, GltfError, PhotoError, ImportError: a file
                cannot be used.
        """
        import numpy as np

        from lifemask.pipeline.export import saved_head
        from lifemask.pipeline.saved import read_head

        named = self._named_light()
        reconstructor = None
        if self._is_photo or self.like is not None:
            reconstructor = load_reconstructor()
        if self._is_photo:
            assert reconstructor is not None
            found = reconstructor(self.head, faces="largest")
            if not found:
                raise NoFaceError(_without_face(self.head))
            if not self._is_head_alone:
                light = self._exposed(named, found[0].light, reconstructor)
                return np.asarray(found[0].relight(light))
            head = saved_head(found[0])
        else:
            head = read_head(self.head)
        light = self._exposed(named, head.light, reconstructor)
        opaque = self.output.suffix.lower() != ".png"
        size = self.size or _SIZE
        if self.azimuth is None and self.elevation is None:
            return head.draw(light, size=size, opaque=opaque)
        azimuth, elevation = self.azimuth or 0.0, self.elevation or 0.0
        return head.draw_from(azimuth, elevation, light, size=size, opaque=opaque)

    def _named_light(self) -> "Environment | None":
        """Return the light of --light or --environment, or None."""
        from lifemask.pipeline.environment_file import read_environment

        if self.light is not None:
            return _light(self.light)
        if self.environment is not None:
            return read_environment(self.environment, turn_degrees=self.turn or 0.0)
        return None

    def _exposed(
        self,
        named: "Environment | None",
        photo_light: "SphericalHarmonicsLight | None",
        reconstructor: "FaceReconstructor | None",
    ) -> "Environment":
        """Return the light as bright as it is used."""
        from lifemask.geometry.environments import Environment, brightness
        from lifemask.geometry.lighting import SphericalHarmonicsLight
        from lifemask.pipeline.photo_light import light_of_photo

        light = named
        if light is None:
            assert reconstructor is not None
            assert self.like is not None
            taken = light_of_photo(reconstructor, self.like)
            if taken is None:
                raise NoFaceError(_without_face(self.like))
            light = Environment.from_harmonics(taken)
        if self.environment is not None:
            # Files of panoramas have no unit, so the exposure is that of the photo.
            usual = photo_light or SphericalHarmonicsLight.ambient(0.75)
            light = light.scaled(brightness(usual) / max(brightness(light.light), 1e-9))
        return light.scaled(2**self.exposure)


def load_reconstructor() -> "FaceReconstructor":
    """Build the default reconstructor."""
    from lifemask.cli.devices import torch_device
    from lifemask.pipeline.reconstructor import FaceReconstructor

    return FaceReconstructor.from_pretrained(device=torch_device("auto"))


def _without_face(photo: Path) -> str:
    return (
        f"{str(photo)!r} shows no face that convinces. Name a photo of a face, upright and not too "
        "small."
    )


def _light(name: str) -> "Environment":
    """Return a light by its name, or from a JSON file.

    Raises:
        UnknownLightError: there is no such name and no such file.
        LightFileError: the file has other contents.
    """
    from lifemask.geometry.environments import Environment
    from lifemask.geometry.lighting import SphericalHarmonicsLight
    from lifemask.pipeline.light_file import LightFileError, read_light

    if name == "ambient":
        return Environment.from_harmonics(SphericalHarmonicsLight.ambient(0.9))
    if name in _DIRECTIONS:
        azimuth, elevation = (math.radians(angle) for angle in _DIRECTIONS[name])
        return Environment.from_lamp(azimuth, elevation, strength=0.95, ambient=0.12)
    try:
        return Environment.from_harmonics(read_light(name))
    except FileNotFoundError as error:
        known = f"{', '.join(_DIRECTIONS)}, ambient, or a JSON file of nine RGB coefficients"
        raise UnknownLightError(f"There is no light {name!r}. Known: {known}.") from error
    except OSError as error:
        raise LightFileError(f"Cannot read {name!r}: {error.strerror}.") from error
