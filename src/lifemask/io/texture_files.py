"""The textures of materials as picture files, named after material and use."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lifemask.io.files import plain_name, write_bytes
from lifemask.io.images import encode_image, image_type
from lifemask.io.scenes import SurfaceMaterial

USES = ("colour", "normal", "roughness", "occlusion")
"""What textures are for."""


@dataclass(frozen=True)
class TextureFiles:
    """Names of written textures."""

    written: list[Path]
    """All files, each once."""
    names: dict[SurfaceMaterial, dict[str, str]]
    """For each material, the name of the file for each use."""


def write_textures(
    folder: Path, stem: str, materials: Iterable[SurfaceMaterial], labels: Sequence[str]
) -> TextureFiles:
    """Write `STEM_LABEL_USE.png|jpg` for each texture; an image of several materials is written once.

    Args:
        folder: where to write.
        stem: beginning of all names.
        materials: whose textures to write.
        labels: a different name for each material.

    Raises:
        OutputError: a file cannot be written.
    """
    written: list[Path] = []
    stored: dict[bytes, str] = {}
    names: dict[SurfaceMaterial, dict[str, str]] = {}
    for material, label in zip(materials, labels, strict=True):
        names[material] = {}
        for use, image in _images(material):
            if image not in stored:
                suffix = ".png" if image_type(image) == "image/png" else ".jpg"
                file = folder / f"{plain_name(stem)}_{plain_name(label)}_{use}{suffix}"
                write_bytes(file, image)
                written.append(file)
                stored[image] = file.name
            names[material][use] = stored[image]
    return TextureFiles(written, names)


def texture_names(stem: str, labels: Sequence[str]) -> list[str]:
    """Return the names of all files that `write_textures` may write; some may not be needed."""
    return [
        f"{plain_name(stem)}_{plain_name(label)}_{use}{suffix}"
        for label in labels
        for use in USES
        for suffix in (".png", ".jpg")
    ]


def _images(material: SurfaceMaterial) -> Iterator[tuple[str, bytes]]:
    if material.base_colour_image is not None:
        yield "colour", material.base_colour_image
    if material.normal_image is not None:
        yield "normal", material.normal_image
    if material.metallic_roughness_image is not None:
        yield "roughness", _channel(material.metallic_roughness_image, 1)
    if material.occlusion_image is not None:
        yield "occlusion", _channel(material.occlusion_image, 0)


def _channel(image: bytes, channel: int) -> bytes:
    """Return one channel of an image as a grey PNG."""
    with Image.open(io.BytesIO(image)) as opened:
        values = np.asarray(opened.convert("RGB"))[..., channel]
    return encode_image(np.ascontiguousarray(values), "png")
