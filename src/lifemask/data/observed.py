"""Observations of training photos, stored on disk so that they are computed only once.

The key of a file is the sha256 of the photo's file and that of perception's weights: after a change
of a photo or network the photo is processed again, otherwise never.
"""

import hashlib
import io
import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lifemask.data.photos import PhotoPlace, RawPhoto
from lifemask.io.files import make_folder, write_bytes
from lifemask.io.images import Photo, PhotoError, decode_photo
from lifemask.morphable.assets import read_card
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceDetection, FaceObservation
from lifemask.perception.segmentation import CROP_SIZE, SEGMENTATION_CLASSES
from lifemask.perception.weights import cache_directory

logger = logging.getLogger(__name__)

Verdict = Literal["face", "no face", "damaged"]

SKIN_SIZE = 128
"""Pixels along each side of the stored skin map."""

SURE = 0.5
"""Lowest presence of a face that is used for training."""

SPREAD = 0.02
"""Disagreement of a point, in units of the face's extent, at which its weight falls to 1/e."""

# Increase this number if the meaning of the stored values changes.
_VERSION = 1
_NETWORKS = ("yunet", "face_mesh", "face_mesh_profile", "face_mesh_topology", "segmentation")
_VERDICTS: tuple[Verdict, ...] = ("face", "no face", "damaged")


@dataclass(frozen=True, eq=False)
class ObservedFace:
    """The face of one training photo, in photo pixels."""

    landmarks478: Float[Tensor, "478 2"]
    """Dense points (x, y)."""
    weight478: Float[Tensor, "478"]
    """Agreement of the network's passes on each point, 0 to 1."""
    skin: UInt8[Tensor, "S S"]
    """Probability of skin of the face, from 0 to 255 (certain)."""
    skin_to_photo: Float[Tensor, "2 3"]
    """Affine from pixels of `skin` (x, y, 1) to photo pixels; centres at +0.5."""


@cache
def perception_hash() -> str:
    """Return sixteen hexadecimal digits for the networks of perception."""
    text = f"{_VERSION} " + " ".join(read_card(f"perception/{n}").sha256 for n in _NETWORKS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ObservationCache:
    """Stored observations, one file per photo in a folder."""

    folder: Path
    """Folder for the present networks only."""

    @classmethod
    def default(cls) -> "ObservationCache":
        """Return the store in the cache folder for the shipped networks."""
        return cls(cache_directory() / "observed" / perception_hash())

    def path(self, photo: bytes) -> Path:
        """Return the path of the observation for the content of a photo's file."""
        digest = hashlib.sha256(photo).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"

    def write(self, path: Path, found: ObservedFace | Verdict) -> None:
        """Store a face, or the reason why there is none.

        Raises:
            OutputError: the disk is full, or not writable.
        """
        verdict = found if isinstance(found, str) else "face"
        tensors = {"verdict": torch.tensor(_VERDICTS.index(verdict), dtype=torch.uint8)}
        if not isinstance(found, str):
            tensors |= {name: value.contiguous() for name, value in vars(found).items()}
        make_folder(path.parent)
        write_bytes(path, save(tensors))

    def verdict(self, path: Path) -> Verdict | None:
        """Return the result for a photo; None if it was not processed yet."""
        tensors = self._tensors(path)
        return None if tensors is None else _VERDICTS[int(tensors["verdict"])]

    def read(self, path: Path) -> ObservedFace:
        """Return the face found in a photo.

        Raises:
            FileNotFoundError: the file is missing, or no face was found.
        """
        tensors = self._tensors(path)
        if tensors is None or len(tensors) == 1:
            raise FileNotFoundError(
                f"There is no observed face at {path}. Start the training again with --resume: "
                "the photo is then processed again."
            )
        del tensors["verdict"]
        return ObservedFace(**tensors)

    def _tensors(self, path: Path) -> dict[str, Tensor] | None:
        try:
            return load_file(path)
        except FileNotFoundError:
            return None
        except SafetensorError:
            # A damaged file is deleted and later written again.
            path.unlink(missing_ok=True)
            return None


def observe_face(perception: FacePerception, photo: RawPhoto) -> ObservedFace | Verdict:
    """Return the face that perception finds in one photo, or the reason why there is none.

    If its JSON has no `face_box_xyxy`, the whole photo is the face.
    """
    try:
        pixels = _decoded(photo).pixels
    except PhotoError:
        return "damaged"
    box = photo.about.get("face_box_xyxy")
    if box is None:
        seen = perception.observe_crop(pixels, quality="fast", segment=True, embed=False)
    else:
        faces = perception.detect(pixels)
        if not faces:
            return "no face"
        face = max(faces, key=lambda face: _overlap(face, box))
        seen = perception.observe(pixels, face, quality="fast", segment=True, embed=False)
    return "no face" if seen.presence < SURE else _observed(seen)


def observe_all(
    places: Sequence[PhotoPlace], store: ObservationCache, *, workers: int = 0
) -> tuple[list[tuple[PhotoPlace, Path]], dict[str, int]]:
    """Process all new photos; return those with a face, and the number of others by reason.

    Photos without a face and damaged ones are logged and counted.

    Args:
        places: of the photos.
        store: for the results.
        workers: number of processes that run perception; 0 runs it in this process.

    Raises:
        OutputError: the results cannot be written.
        ShardError: a shard has changed.
    """
    started, reported = time.monotonic(), time.monotonic()
    kept: list[tuple[PhotoPlace, Path]] = []
    lost: Counter[str] = Counter()
    for done, (place, path, verdict) in enumerate(_verdicts(places, store, workers), 1):
        if verdict == "face":
            kept.append((place, path))
        else:
            lost[verdict] += 1
            logger.info("%s of %s is left out: %s.", place.key, place.shard.name, verdict)
        now = time.monotonic()
        if now - reported > 10:
            reported = now
            rate = done / (now - started)
            logger.info(
                "Processed %d of %d photos, %.0f s to go",
                done, len(places), (len(places) - done) / rate,
            )  # fmt: skip
    return kept, dict(lost)


def skin_in_crop(
    face: ObservedFace,
    crop_to_photo: Float[Tensor, "2 3"],
    size: int,
    image_size: tuple[int, int],
) -> Float[Tensor, "size size"]:
    """Return the skin map (0 to 1) in the pixels of a crop, 0 outside of the photo.

    Args:
        face: an observed face with its skin map.
        crop_to_photo: affine from crop pixels to photo pixels.
        size: pixels along each side of the crop.
        image_size: (height, width) of the photo.
    """
    last = torch.tensor([[0.0, 0.0, 1.0]])
    to_map = torch.linalg.inv(torch.cat([face.skin_to_photo, last]))
    affine = (to_map @ torch.cat([crop_to_photo, last]))[:2]
    steps = torch.arange(size) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    in_photo = grid @ crop_to_photo[:, :2].T + crop_to_photo[:, 2]
    height, width = image_size
    inside = ((in_photo >= 0) & (in_photo <= in_photo.new_tensor([width, height]))).all(-1)
    points = grid @ affine[:, :2].T + affine[:, 2]
    grid = points * (2 / face.skin.shape[-1]) - 1
    image = (face.skin.float() / 255)[None, None]
    return (
        F.grid_sample(image, grid[None], padding_mode="zeros", align_corners=False)[0, 0] * inside
    )


def _verdicts(
    places: Sequence[PhotoPlace], store: ObservationCache, workers: int
) -> Iterator[tuple[PhotoPlace, Path, Verdict]]:
    """Yield all photos in order with their results; several processes share the work."""
    # Training processes start at different photos, so that they share the work.
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1:
        for place in places[rank * len(places) // count : (rank + 1) * len(places) // count]:
            _look(place, store)
    if workers == 0:
        for place in places:
            yield place, *_look(place, store)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        jobs = pool.map(_look, places, [store] * len(places), chunksize=8)
        for place, result in zip(places, jobs, strict=True):
            yield place, *result


def _look(place: PhotoPlace, store: ObservationCache) -> tuple[Path, Verdict]:
    photo = place.read()
    path = store.path(photo.image)
    verdict = store.verdict(path)
    if verdict is None:
        found = observe_face(_perception(), photo)
        store.write(path, found)
        verdict = found if isinstance(found, str) else "face"
    return path, verdict


@cache
def _perception() -> FacePerception:
    return FacePerception.from_pretrained()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _decoded(photo: RawPhoto) -> Photo:
    return decode_photo(io.BytesIO(photo.image), name=photo.key)


def landmark_weights(seen: FaceObservation) -> Float[Tensor, "478"]:
    """Return the agreement of the landmark network's passes on each dense point, 0 to 1."""
    points = seen.landmarks478[:, :2]
    extent = (points.amax(0) - points.amin(0)).amax()
    return seen.presence * torch.exp(-((seen.landmark_sigma / (SPREAD * extent)) ** 2))


def _observed(seen: FaceObservation) -> ObservedFace:
    points, weight = seen.landmarks478[:, :2], landmark_weights(seen)
    assert seen.segmentation is not None, "Segmentation was asked for."
    skin = seen.segmentation[SEGMENTATION_CLASSES.index("face_skin")]
    small = F.avg_pool2d(skin[None], CROP_SIZE // SKIN_SIZE)[0]
    scale = torch.tensor([CROP_SIZE / SKIN_SIZE, CROP_SIZE / SKIN_SIZE, 1.0])
    return ObservedFace(
        points.float(),
        weight.float(),
        (small * 255).round().to(torch.uint8),
        seen.segmentation_to_photo.float() * scale,
    )


def _overlap(face: FaceDetection, box: Any) -> float:
    """Return intersection over union with a box."""
    ours, theirs = face.box_xyxy.tolist(), [float(v) for v in box]
    width = min(ours[2], theirs[2]) - max(ours[0], theirs[0])
    height = min(ours[3], theirs[3]) - max(ours[1], theirs[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (ours, theirs))
    return shared / max(areas - shared, 1e-9)
