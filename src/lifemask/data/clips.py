"""Clips from videos, each of one person: a few random frames in their order.

Beside each `VIDEO.mp4` is its card `VIDEO.json` with `source`, `identity` and `licence_tier`. PyAV
decodes each video once; its frames become a shard of `VIDEO_NNNN.jpg` and `.json` in the cache.
Training then reads clips like photos.
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
from lifemask.data.batch import FaceBatch
from lifemask.data.cards import Card, check_tier, held_out_people, person_name
from lifemask.data.mixture import generator_for
from lifemask.data.observed import ObservationCache, observe_all
from lifemask.data.photo_faces import FaceCrops, framed_photo
from lifemask.data.photos import PhotoPlace, ShardError, find_files, index_shards
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.io.files import atomic_write, make_folder
from lifemask.perception.weights import cache_directory

logger = logging.getLogger(__name__)

FRAMES_KEPT = 24
"""Number of frames of each video, evenly spaced over its length."""

LONGEST_SIDE = 512
"""Longer side in pixels to which larger frames are reduced."""

_CARD = ("source", "identity", "licence_tier")
_WANTED = "source (where it is from), identity (whom it shows) and licence_tier (open or research)"

Video = tuple[tuple[PhotoPlace, Path], ...]


@dataclass(frozen=True)
class ClipFaces:
    """Videos as clips of a few frames in their order."""

    videos: tuple[Video, ...]
    """For each video the places of its frames and their observations."""
    store: ObservationCache
    """Reads the observations."""
    frames: int
    """Number of frames in each clip."""
    crops: FaceCrops
    """Size and variations of the crops; a clip is mirrored as a whole."""

    def __len__(self) -> int:
        return len(self.videos)

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch with axes (size, frames); see `FaceSource`."""
        clips = joined([self._clip(number) for number in range(index * size, (index + 1) * size)])
        return augmented(
            clips, self.crops.augmentation, generator_for(self.crops.seed, "varied", index)
        )

    def _clip(self, number: int) -> FaceBatch:
        seed = self.crops.seed
        generator = generator_for(seed, "clip", number)
        order = torch.randperm(
            len(self), generator=generator_for(seed, "order", number // len(self))
        )
        which = int(order[number % len(self)])
        video = self.videos[which]
        chosen = torch.randperm(len(video), generator=generator)[: self.frames].sort().values
        frames = [
            framed_photo(place.read(), self.store.read(path), self.crops.size)
            for place, path in (video[k] for k in chosen.tolist())
        ]
        clip = joined(frames)
        return map_tensors(lambda t: t[None], clip)


def open_clips(
    data: Path | None,
    patterns: Sequence[str],
    *,
    tiers: Sequence[str],
    frames: int,
    crops: FaceCrops,
    held_out: float = 0.15,
    store: ObservationCache | None = None,
    shards: Path | None = None,
    workers: int = 0,
) -> tuple[ClipFaces, ClipFaces, dict[str, Any]]:
    """Return clips for training, clips of other people for validation, and a summary.

    Args:
        data: folder to which the patterns are relative.
        patterns: videos, each with its card; see `find_files`. Cards that match are ignored.
        tiers: the licence tiers that videos may have.
        frames: number of frames in each clip.
        crops: size and variations of training clips; validation clips are not varied.
        held_out: share of the people for validation; at least one person.
        store: of observations; by default in the cache folder.
        shards: folder for frames; by default in the cache folder.
        workers: number of processes that run perception.

    Raises:
        ShardError: there are no videos; one has no card, or another licence tier; too few people
            have enough frames with a face; or PyAV is not installed.
        OutputError: frames cannot be written.
    """
    store = ObservationCache.default() if store is None else store
    shards = cache_directory() / "clips" if shards is None else shards
    cards, damaged = _decoded(find_files(data, patterns), tiers, shards)
    places, _ = index_shards(list(cards))
    kept, without = observe_all(places, store, workers=workers)
    videos = [tuple(group) for _, group in groupby(kept, key=lambda pair: pair[0].shard)]
    enough = [video for video in videos if len(video) >= frames]
    shown = [cards[video[0][0].shard] for video in enough]
    names = [_person(card) for card in shown]
    if len(set(names)) < 2:
        raise ShardError(
            f"Of {len(cards)} videos, {len(enough)} have {frames} frames with a face and show "
            f"{len(set(names))} people; at least two people are needed, one to train on and one to "
            "validate on."
        )
    out = held_out_people(names, held_out)
    parts: tuple[list[Video], ...] = ([], [])
    for video, name in zip(enough, names, strict=True):
        parts[name in out].append(video)
    training, held = (
        ClipFaces(tuple(part), store, frames, own)
        for part, own in zip(parts, (crops, crops.unvaried()), strict=True)
    )
    lost = {"damaged videos": damaged, **without, "short videos": len(cards) - len(enough)}
    about = {
        "videos": len(training),
        "held_out": len(held),
        "left_out": {reason: count for reason, count in lost.items() if count},
        "tiers": sorted({card["licence_tier"] for card in shown}),
    }
    return training, held, about


class VideoError(ValueError):
    """A video cannot be decoded; the message names it."""


def video_card(video: Path) -> Card:
    """Return the card beside a video, `NAME.json`.

    Raises:
        ShardError: there is no card, it cannot be read, or it is incomplete.
    """
    path = video.with_suffix(".json")
    try:
        card = json.loads(path.read_bytes())
        lacking = [key for key in _CARD if not isinstance(card.get(key), str)]
    except FileNotFoundError as error:
        raise ShardError(
            f"{video} has no card {path.name} beside it. Write one with {_WANTED}, or leave "
            "the video out."
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise ShardError(
            f"The card {path} cannot be read ({error}). It must be a JSON object with {_WANTED}."
        ) from error
    if lacking:
        raise ShardError(f"The card {path} lacks {', '.join(lacking)}. It must have {_WANTED}.")
    return card


def frame_shard(video: Path, folder: Path) -> Path:
    """Return the shard with a video's frames and its card; write it if it is missing.

    Raises:
        ShardError: the video has no card, or PyAV is not installed.
        VideoError: the video cannot be decoded.
        OutputError: the shard cannot be written.
    """
    card = {key: video_card(video)[key] for key in _CARD}
    with open(video, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    # If the card has changed, the video counts as another video.
    digest.update(json.dumps(card).encode())
    shard = make_folder(folder) / f"{video.stem}-{digest.hexdigest()[:16]}.tar"
    if not shard.exists():
        frames = list(video_frames(video, FRAMES_KEPT))
        with atomic_write(shard) as output, tarfile.open(fileobj=output, mode="w") as archive:
            for number, pixels in enumerate(frames):
                key = f"{video.stem}_{number:04}".replace(".", "_")
                _add(archive, f"{key}.jpg", _jpeg(pixels))
                # The empty box means the largest face.
                about = {**card, "face_box_xyxy": [0, 0, 0, 0]}
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


def _decoded(
    files: Sequence[Path], tiers: Sequence[str], folder: Path
) -> tuple[dict[Path, Card], int]:
    """Return the shard of each video with its card, and how many videos are damaged."""
    videos = [file for file in files if file.suffix != ".json"]
    cards = [video_card(video) for video in videos]
    # This check comes before the slow part: videos that may not be used are not decoded.
    for video, card in zip(videos, cards, strict=True):
        check_tier(card, tiers, of=str(video))
    shards: dict[Path, Card] = {}
    for video, card in zip(videos, cards, strict=True):
        try:
            shards[frame_shard(video, folder)] = card
        except VideoError as error:
            logger.warning("%s", error)
    return shards, len(videos) - len(shards)


def _person(card: Card) -> str:
    name = person_name(card)
    assert name is not None, "Cards of videos name somebody."
    return name


def _jpeg(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
