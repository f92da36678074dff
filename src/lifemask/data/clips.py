"""Clips of one person each: frames taken evenly from videos, kept as shards, drawn at random.

A video is decoded once, by PyAV; its frames become a shard of `VIDEO_NNNN.jpg` and `.json` in the
cache, so that training reads clips as it reads photos.
"""

import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import generator_for
from lifemask.data.observed import ObservationCache, observe_all
from lifemask.data.photo_faces import framed_photo
from lifemask.data.photos import PhotoPlace, ShardError, find_files, index_shards
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.io.files import atomic_write, make_folder
from lifemask.perception.weights import cache_directory

logger = logging.getLogger(__name__)

FRAMES_KEPT = 24
"""Frames taken from each video, evenly over its length."""

LONGEST_SIDE = 512
"""Larger frames are reduced to this many pixels."""

Video = tuple[tuple[PhotoPlace, Path], ...]


@dataclass(frozen=True)
class ClipFaces:
    """Videos as clips of a few frames in their order."""

    videos: tuple[Video, ...]
    """For each video where its frames lie, and what was observed in them."""
    store: ObservationCache
    """Reads the latter."""
    frames: int
    """Frames of each clip."""
    size: int
    """Pixels on a side of the crops."""
    seed: int
    """Of the choice and of augmentation."""
    augmentation: Augmentation
    """Variations of the crops; a clip is mirrored as a whole."""

    def __len__(self) -> int:
        return len(self.videos)

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch with axes (size, frames); see `FaceSource`."""
        clips = joined([self._clip(number) for number in range(index * size, (index + 1) * size)])
        return augmented(clips, self.augmentation, generator_for(self.seed, "varied", index))

    def _clip(self, number: int) -> FaceBatch:
        generator = generator_for(self.seed, "clip", number)
        order = torch.randperm(
            len(self), generator=generator_for(self.seed, "order", number // len(self))
        )
        which = int(order[number % len(self)])
        video = self.videos[which]
        chosen = torch.randperm(len(video), generator=generator)[: self.frames].sort().values
        frames = [
            framed_photo(place.read(), self.store.read(path), self.size)
            for place, path in (video[k] for k in chosen.tolist())
        ]
        clip = joined(frames)
        return map_tensors(lambda t: t[None], clip)


def open_clips(
    data: Path | None,
    patterns: Sequence[str],
    *,
    frames: int,
    size: int,
    seed: int,
    augmentation: Augmentation,
    held_out: float = 0.15,
    store: ObservationCache | None = None,
    shards: Path | None = None,
    workers: int = 0,
) -> tuple[ClipFaces, ClipFaces, dict[str, Any]]:
    """Return clips to train on, clips of other videos to validate on, and what is known of them.

    Args:
        data: folder to which the patterns are relative.
        patterns: videos; see `find_files`.
        frames: of each clip.
        size: pixels on a side of the crops.
        seed: of choice and augmentation.
        augmentation: of the crops to train on.
        held_out: share of the videos to validate on; at least one.
        store: where observations are kept; by default in the cache folder.
        shards: where frames are kept; by default in the cache folder.
        workers: processes that look at frames.

    Raises:
        ShardError: no videos, too few with enough faces, or PyAV is not installed.
        OutputError: frames cannot be written.
    """
    store = ObservationCache.default() if store is None else store
    shards = cache_directory() / "clips" if shards is None else shards
    kept_shards: list[Path] = []
    lost: dict[str, int] = {}
    for video in find_files(data, patterns):
        try:
            kept_shards.append(frame_shard(video, shards))
        except VideoError as error:
            lost["damaged videos"] = lost.get("damaged videos", 0) + 1
            logger.warning("%s", error)
    places, _ = index_shards(kept_shards)
    kept, without = observe_all(places, store, workers=workers)
    videos = [tuple(group) for _, group in groupby(kept, key=lambda pair: pair[0].shard)]
    enough = [video for video in videos if len(video) >= frames]
    if len(enough) < 2:
        raise ShardError(
            f"Of {len(kept_shards)} videos, {len(enough)} have {frames} frames with a face; at "
            "least two are needed, one to train on and one to validate on."
        )
    enough.sort(key=lambda video: hashlib.sha256(video[0][0].shard.name.encode()).digest())
    count = min(max(1, round(held_out * len(enough))), len(enough) - 1)
    training, held = (
        ClipFaces(tuple(part), store, frames, size, seed, variation)
        for part, variation in (
            (enough[count:], augmentation),
            (enough[:count], Augmentation.none()),
        )
    )
    short = len(kept_shards) - len(enough)
    about = {
        "videos": len(training),
        "held_out": len(held),
        "left_out": {**lost, **without, **({"short videos": short} if short else {})},
        "tiers": ["research"],
    }
    return training, held, about


class VideoError(ValueError):
    """A video cannot be decoded; the message says which."""


def frame_shard(video: Path, folder: Path) -> Path:
    """Return the shard with a video's frames, made if it is not there.

    Raises:
        ShardError: PyAV is not installed.
        VideoError: the video cannot be decoded.
        OutputError: the shard cannot be written.
    """
    with open(video, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    shard = make_folder(folder) / f"{video.stem}-{digest}.tar"
    if not shard.exists():
        frames = list(video_frames(video, FRAMES_KEPT))
        with atomic_write(shard) as output, tarfile.open(fileobj=output, mode="w") as archive:
            for number, pixels in enumerate(frames):
                key = f"{video.stem}_{number:04}".replace(".", "_")
                about = {
                    "source": video.name,
                    "identity": video.stem,
                    "face_box_xyxy": [0, 0, 0, 0],
                }
                _add(archive, f"{key}.jpg", _jpeg(pixels))
                _add(archive, f"{key}.json", json.dumps(about).encode())
    return shard


def video_frames(video: Path, count: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield up to `count` frames in sRGB, evenly spaced over a video.

    Raises:
        ShardError: PyAV is not installed.
        VideoError: the video cannot be decoded, or has no pictures.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ShardError(
            "Videos are decoded by PyAV, which is not installed. Run: pip install 'lifemask[train]'."
        ) from error
    try:
        with av.open(str(video)) as container:
            total = sum(1 for _ in container.decode(video=0))
        wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
        with av.open(str(video)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    image: Any = frame.to_image()
                    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                    yield np.asarray(image.convert("RGB"))
    except (FFmpegError, IndexError, OSError) as error:
        raise VideoError(f"{video} cannot be decoded ({error}); it is left out.") from error
    if not total:
        raise VideoError(f"{video} has no pictures; it is left out.")


def _jpeg(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
