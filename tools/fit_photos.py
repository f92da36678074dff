"""Fit the default head to a folder of photos and store the fits for training.

    python tools/fit_photos.py ../shared/data/train/open-*.tar --output fits.tar

Reads shards of WebDataset form (`KEY.jpg`), keeps the largest face of each photo if the confidence
of its fit is high, and writes a store for `lifemask.data.stored_fits`. Give only photos with a
licence tier that allows the planned use of the weights. Takes about two seconds per photo on one
CPU thread.
"""

import argparse
import io
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lifemask.data.stored_fits import StoredFit, write_fits
from lifemask.io.images import Photo
from lifemask.morphable.assets import read_card
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.perception.framing import (
    FaceFrame,
    crop_camera,
    crop_light,
    crop_pixels,
    face_frame,
    photo_points,
)
from lifemask.perception.photo_segments import segmentation_at
from lifemask.perception.segmentation import SEGMENTATION_CLASSES
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor

ROOM = 1.6
"""Side of the stored square, in units of the networks' frame."""

BACKGROUND, HAIR, OTHER = (
    SEGMENTATION_CLASSES.index(name) for name in ("background", "hair", "other")
)


def photos_of(shards: list[Path], limit: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and sRGB pixels of photos; at most `limit` of each shard, evenly spaced."""
    for shard in shards:
        with tarfile.open(shard) as archive:
            members = [member for member in archive if member.name.endswith(".jpg")]
            kept = np.linspace(0, len(members) - 1, min(limit or len(members), len(members)))
            for member in (members[int(number)] for number in kept.round()):
                content = archive.extractfile(member)
                assert content is not None
                image = Image.open(io.BytesIO(content.read())).convert("RGB")
                yield member.name.removesuffix(".jpg"), np.asarray(image)


def stored(key: str, face: FaceReconstruction, size: int) -> StoredFit:
    """Return the fit of a reconstruction, cropped to a square of `size` pixels around the head."""
    tight = face_frame(face.observation.landmarks478)
    frame = FaceFrame(tight.centre, tight.side * ROOM, tight.roll)
    steps = torch.arange(size) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    albedo = face.texture.albedo
    classes = segmentation_at(face.observation, photo_points(grid, frame, size))
    return StoredFit(
        key,
        crop_pixels(face.photo.pixels, frame, size),
        (classes[:, HAIR] + classes[:, OTHER]).view(size, size),
        ExplainedFace(
            face.coefficients,
            crop_camera(face.camera, frame, size),
            crop_light(face.light, frame),
            albedo_map=UVMap(albedo, torch.ones_like(albedo[0])),
        ),
        (1 - classes[:, BACKGROUND]).view(size, size),
    )


def main() -> None:
    """Fit photos, store the fits, and print how many were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--size", type=int, default=320, help="pixels along each side of the squares"
    )
    parser.add_argument(
        "--limit", type=int, default=None, help="photos of each shard, evenly spaced"
    )
    parser.add_argument("--least-confidence", type=float, default=0.7)
    options = parser.parse_args()
    reconstructor = FaceReconstructor.from_pretrained(quality="full", texture_size=512)
    left_out: list[str] = []
    started = time.monotonic()

    def fits() -> Iterator[StoredFit]:
        for number, (key, pixels) in enumerate(photos_of(options.shards, options.limit), 1):
            try:
                faces = reconstructor(Photo(pixels, None, key), faces="largest")
            except Exception as error:
                print(f"{key} was left out: {error}", file=sys.stderr)
                faces = []
            if not faces or faces[0].confidence < options.least_confidence:
                left_out.append(key)
            else:
                yield stored(key, faces[0], options.size)
            if number % 50 == 0:
                rate = (time.monotonic() - started) / number
                print(f"{number} photos, {len(left_out)} left out, {rate:.1f} s each", flush=True)

    with torch.no_grad():
        count = write_fits(options.output, fits(), head=read_card("head/head").sha256)
    print(f"{count} fits in {options.output}; left out: {', '.join(left_out) or 'none'}.")


if __name__ == "__main__":
    main()
