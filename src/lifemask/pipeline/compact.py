"""Reconstructions in few megabytes, for pickle: pictures as PNG, the head model by its name.

The texture keeps 8 bits for each colour, as in the files that are written, and the segmentation half
precision. All else stays exact.
"""

import io
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.io.images import Photo, encode_image
from lifemask.morphable.assets import read_card
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.texture.face_texture import FaceTexture

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
        data = zlib.compress(found.half().numpy().tobytes())
        return cls(data, tuple(found.shape), replace(observation, segmentation=None))

    def restored(self) -> FaceObservation:
        """Return the observation; its segmentation has the three digits of half precision."""
        if not self.segmentation:
            return self.observation
        values = np.frombuffer(zlib.decompress(self.segmentation), np.float16)
        segmentation = torch.from_numpy(values.astype(np.float32).reshape(self.shape))
        return replace(self.observation, segmentation=segmentation)


@dataclass(frozen=True)
class CompactTexture:
    """A texture as PNG."""

    albedo: bytes
    """The albedo in 8-bit sRGB."""
    origin: bytes
    """The origin of each texel."""
    fine: bytes | None
    """The same albedo with more texels."""
    texture: FaceTexture
    """The texture with a single texel."""

    @classmethod
    def of(cls, texture: FaceTexture) -> "CompactTexture":
        """Return a texture in few bytes."""
        small = replace(
            texture,
            albedo=texture.albedo[:, :1, :1].clone(),
            origin=texture.origin[:1, :1].clone(),
            fine=None,
        )
        return cls(
            encode_image(pixels_from_image(texture.albedo), "png"),
            encode_image(texture.origin.numpy(), "png"),
            None if texture.fine is None else encode_image(texture.fine, "png"),
            small,
        )

    def restored(self) -> FaceTexture:
        """Return the texture, equal in all 8 bits of each colour."""
        return replace(
            self.texture,
            albedo=image_from_pixels(_pixels(self.albedo)),
            origin=torch.from_numpy(_pixels(self.origin)),
            fine=None if self.fine is None else _pixels(self.fine),
        )


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
        "texture": CompactTexture.of(state["texture"]),
        "model": CompactModel.of(state["model"]),
    }


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a reconstruction that `compacted` has made small."""
    large = ("photo", "observation", "texture", "model")
    return state | {name: state[name].restored() for name in large}
