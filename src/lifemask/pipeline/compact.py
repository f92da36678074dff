"""Reconstructions in few megabytes, for pickle: pictures as PNG, the head model by its name.

The texture keeps 8 bits for each colour, as in the files that are written, relief and its normals 15 bits,
and the segmentation half precision. All else stays exact.
"""

import bz2
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.fitting.fit import FaceFit
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.io.images import Photo, encode_image
from lifemask.morphable.assets import read_card
from lifemask.morphable.explained_face import UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.rendering.shading import normalize_image
from lifemask.texture.face_texture import FaceTexture

_LARGEST = 16383
"""Largest integer of compressed numbers: more digits would be noise, which takes most of the bytes."""

_LIGHT_STEPS = 255
"""The same for the square root of light: as fine as the eight bits of a picture."""

_HEAD = ("head/head", "head/albedo", "head/landmarks")
"""The assets of the head model."""


@dataclass(frozen=True)
class CompactPhoto:
    """A photo as PNG."""

    png: bytes
    """The pixels."""
    photo: Photo
    """The photo with a single pixel."""

    @classmethod
    def of(cls, photo: Photo) -> "CompactPhoto":
        """Return a photo in few bytes."""
        return cls(encode_image(photo.pixels, "png"), replace(photo, pixels=photo.pixels[:1, :1]))

    def restored(self) -> Photo:
        """Return the photo, equal in every pixel."""
        return replace(self.photo, pixels=_pixels(self.png))


@dataclass(frozen=True)
class CompactObservation:
    """An observation whose segmentation is compressed."""

    segmentation: bytes
    """The probabilities as compressed float16; empty without a segmentation."""
    shape: tuple[int, ...]
    """Shape of the segmentation."""
    observation: FaceObservation
    """The observation without its segmentation."""

    @classmethod
    def of(cls, observation: FaceObservation) -> "CompactObservation":
        """Return an observation in few bytes."""
        found = observation.segmentation
        if found is None:
            return cls(b"", (), observation)
        data = bz2.compress(found.half().numpy().tobytes())
        return cls(data, tuple(found.shape), replace(observation, segmentation=None))

    def restored(self) -> FaceObservation:
        """Return the observation; its segmentation has the three digits of half precision."""
        if not self.segmentation:
            return self.observation
        values = np.frombuffer(bz2.decompress(self.segmentation), np.float16)
        segmentation = torch.from_numpy(values.astype(np.float32).reshape(self.shape))
        return replace(self.observation, segmentation=segmentation)


@dataclass(frozen=True)
class CompactValues:
    """Numbers as compressed integers."""

    data: bytes
    """The integers."""
    shape: tuple[int, ...]
    """Shape of the numbers."""
    step: float
    """The number that the integer 1 stands for."""

    @classmethod
    def of(cls, values: Float[Tensor, "*shape"], steps: int = _LARGEST) -> "CompactValues":
        """Return numbers in few bytes, rounded to the largest of them over `steps`."""
        step = max(float(values.abs().max()), 1e-9) / steps
        short = (values / step).round().to(torch.int16).numpy()
        # Neighbours are alike; low and high bytes apart compress better.
        changes = np.ascontiguousarray(np.diff(short, axis=-1, prepend=np.int16(0)))
        planes = changes.view(np.uint8).reshape(-1, 2).T
        return cls(bz2.compress(planes.tobytes()), tuple(values.shape), step)

    def restored(self) -> Float[Tensor, "*shape"]:
        """Return the numbers, rounded."""
        planes = np.frombuffer(bz2.decompress(self.data), np.uint8).reshape(2, -1)
        changes = np.ascontiguousarray(planes.T).view(np.int16).reshape(self.shape)
        short = changes.cumsum(-1, dtype=np.int16).astype(np.float32)
        return torch.from_numpy(short * np.float32(self.step))


@dataclass(frozen=True)
class CompactMap:
    """A map in UV, compressed."""

    values: CompactValues
    """Its values."""
    coverage: CompactValues
    """Its coverage."""

    @classmethod
    def of(cls, known: UVMap | None, steps: int = _LARGEST) -> "CompactMap | None":
        """Return a map in few bytes, rounded as `CompactValues`; None for none."""
        if known is None:
            return None
        return cls(CompactValues.of(known.values, steps), CompactValues.of(known.coverage, steps))

    def restored(self) -> UVMap:
        """Return the map; see `CompactValues`."""
        return UVMap(self.values.restored(), self.coverage.restored())


@dataclass(frozen=True)
class CompactLight:
    """A light map in UV, compressed."""

    roots: CompactMap
    """The same map with the square roots of its values."""

    @classmethod
    def of(cls, known: UVMap | None) -> "CompactLight | None":
        """Return a light map in few bytes; None for none."""
        if known is None:
            return None
        roots = CompactMap.of(UVMap(known.values.clamp(min=0).sqrt(), known.coverage), _LIGHT_STEPS)
        assert roots is not None
        return cls(roots)

    def restored(self) -> UVMap:
        """Return the map; see `CompactValues`."""
        roots = self.roots.restored()
        return UVMap(roots.values.square(), roots.coverage)


@dataclass(frozen=True)
class CompactTexture:
    """A texture as PNG, its light map compressed."""

    albedo: bytes
    """The albedo in 8-bit sRGB."""
    origin: bytes
    """The origin of each texel."""
    fine: bytes | None
    """The same albedo with more texels."""
    light: CompactLight | None
    """The light map; None without."""
    texture: FaceTexture
    """The texture with a single texel, and without light map."""

    @classmethod
    def of(cls, texture: FaceTexture) -> "CompactTexture":
        """Return a texture in few bytes."""
        small = replace(
            texture,
            albedo=texture.albedo[:, :1, :1].clone(),
            origin=texture.origin[:1, :1].clone(),
            fine=None,
            light_map=None,
        )
        return cls(
            encode_image(pixels_from_image(texture.albedo), "png"),
            encode_image(texture.origin.numpy(), "png"),
            None if texture.fine is None else encode_image(texture.fine, "png"),
            CompactLight.of(texture.light_map),
            small,
        )

    def restored(self) -> FaceTexture:
        """Return the texture, equal in all 8 bits of each colour."""
        return replace(
            self.texture,
            albedo=image_from_pixels(_pixels(self.albedo)),
            origin=torch.from_numpy(_pixels(self.origin)),
            fine=None if self.fine is None else _pixels(self.fine),
            light_map=None if self.light is None else self.light.restored(),
        )


@dataclass(frozen=True)
class CompactFit:
    """A fit whose displacement, light map and refined normals are compressed."""

    displacement: CompactMap | None
    """Displacement in UV; None without."""
    light: CompactLight | None
    """The light map; None without."""
    normals: CompactValues | None
    """Refined normals in the image; None without."""
    fit: FaceFit
    """The fit without these maps, and with a single refined normal of zero."""

    @classmethod
    def of(cls, fit: FaceFit) -> "CompactFit":
        """Return a fit in few bytes."""
        normals = fit.face.normals
        face = replace(
            fit.face,
            displacement_map=None,
            light_map=None,
            normals=None if normals is None else replace(normals, values=torch.zeros(3, 1, 1)),
        )
        return cls(
            CompactMap.of(fit.face.displacement_map),
            CompactLight.of(fit.face.light_map),
            None if normals is None else CompactValues.of(normals.values),
            replace(fit, face=face),
        )

    def restored(self) -> FaceFit:
        """Return the fit; see `CompactValues`."""
        face = self.fit.face
        if self.displacement is not None:
            face = replace(face, displacement_map=self.displacement.restored())
        if self.light is not None:
            face = replace(face, light_map=self.light.restored())
        if self.normals is not None and face.normals is not None:
            normals = normalize_image(self.normals.restored())
            face = replace(face, normals=replace(face.normals, values=normals))
        return replace(self.fit, face=face)


@dataclass(frozen=True)
class CompactModel:
    """A head model: the one that ships by its checksum, any other as it is."""

    identity_modes: int
    """Number of identity modes of the head that ships."""
    sha256: str
    """Checksums of its files, one after the other."""
    other: MorphableModel | None = None
    """Another head model."""

    @classmethod
    def of(cls, model: MorphableModel) -> "CompactModel":
        """Return a model in few bytes if it is the one that ships."""
        shipped = model.is_pretrained and model.mean.dtype == torch.float32
        other = None if shipped else model
        return cls(len(model.identity_basis), _checksum(), other)

    def restored(self) -> MorphableModel:
        """Return the model; faces with the same model share it.

        Raises:
            ValueError: another head ships with this version of the package.
        """
        if self.other is not None:
            return self.other
        if self.sha256 != _checksum():
            raise ValueError(
                "This face was pickled with another version of the head model. Load it with the "
                "version of lifemask that made it, or reconstruct it again."
            )
        return _shared_model(self.identity_modes)


def _checksum() -> str:
    return "".join(read_card(name).sha256 for name in _HEAD)


@lru_cache(maxsize=2)
def _shared_model(identity_modes: int) -> MorphableModel:
    return MorphableModel.from_pretrained(identity_modes=identity_modes)


def _pixels(png: bytes) -> UInt8[np.ndarray, "H W *channels"]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.array(image)


def compacted(state: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a reconstruction, the large ones in few bytes."""
    return state | {
        "photo": CompactPhoto.of(state["photo"]),
        "observation": CompactObservation.of(state["observation"]),
        "fit": CompactFit.of(state["fit"]),
        "texture": CompactTexture.of(state["texture"]),
        "model": CompactModel.of(state["model"]),
    }


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a reconstruction that `compacted` has made small."""
    large = ("photo", "observation", "fit", "texture", "model")
    return state | {name: state[name].restored() for name in large}
