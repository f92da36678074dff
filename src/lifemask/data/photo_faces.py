"""Batches of framed photos with their observations, and AFLW's points if they are known."""

import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.data.cards import check_tier, held_out_people, person_name, person_number
from lifemask.data.mixture import generator_for
from lifemask.data.observed import ObservationCache, ObservedFace, observe_all, skin_in_crop
from lifemask.data.photos import PhotoPlace, RawPhoto, ShardError, find_shards, index_shards
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.io.images import decode_photo
from lifemask.perception.correspondences import IBUG68_FROM_DENSE478
from lifemask.perception.framing import FaceFrame, crop_pixels, crop_points, face_frame
from lifemask.perception.regions import square_regions

logger = logging.getLogger(__name__)

JAW_WEIGHT = 0.3
"""Weight of the 17 jaw points; it is low because the dense points near them do not follow the
outline."""


@dataclass(frozen=True)
class FaceCrops:
    """Settings for cropping and varying faces of photos."""

    size: int
    """Pixels along each side of the crops."""
    seed: int
    """Seed of order and augmentation."""
    augmentation: Augmentation
    """Strengths of the crops' variations."""

    def unvaried(self) -> "FaceCrops":
        """Return the same settings without variations, for validation."""
        return replace(self, augmentation=Augmentation.none())


@dataclass(frozen=True)
class PhotoFaces:
    """Photos with a face; their order changes with every epoch."""

    places: tuple[tuple[PhotoPlace, Path], ...]
    """The place of each photo, and the path of its observation."""
    store: ObservationCache
    """Reads the observations."""
    crops: FaceCrops
    """Size and variations of the crops."""

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`. In each epoch every photo is used once."""
        seed = self.crops.seed
        numbers = [
            _order(seed, number // len(self), len(self))[number % len(self)]
            for number in range(index * size, (index + 1) * size)
        ]
        faces = joined([self.face(number) for number in numbers])
        return augmented(faces, self.crops.augmentation, generator_for(seed, "varied", index))

    def face(self, number: int) -> FaceBatch:
        """Return one photo as a batch of one, without variations."""
        place, path = self.places[number]
        return framed_photo(place.read(), self.store.read(path), self.crops.size)


def open_photos(
    data: Path | None,
    patterns: Sequence[str],
    *,
    tiers: Sequence[str],
    held_out: float,
    crops: FaceCrops,
    limit: int | None = None,
    store: ObservationCache | None = None,
    workers: int = 0,
) -> tuple[PhotoFaces, PhotoFaces, dict[str, Any]]:
    """Return photos for training, photos of other people for validation, and a summary.

    Perception processes new photos first, which may take a long time.

    Args:
        data: folder to which the patterns are relative.
        patterns: shards; see `find_shards`.
        tiers: the licence tiers that photos may have.
        held_out: share of the people for validation; at least one person.
        crops: size and variations of training crops; validation crops are not varied.
        limit: use only the first `limit` photos.
        store: of observations; by default in the cache folder.
        workers: number of processes that run perception.

    Raises:
        ShardError: shards are missing, damaged, of another licence tier, or have too few faces.
        OutputError: observations cannot be written.
    """
    store = ObservationCache.default() if store is None else store
    places, passed = index_shards(find_shards(data, patterns))
    places = places[:limit]
    # If a photo's person is unknown, it counts as a person of its own.
    people = {place: _checked_person(place, tiers) or place.key for place in places}
    kept, lost = observe_all(places, store, workers=workers)
    out = held_out_people((people[place] for place, _ in kept), held_out)
    parts: tuple[list[tuple[PhotoPlace, Path]], ...] = ([], [])
    for place, path in kept:
        parts[people[place] in out].append((place, path))
    training, held = (
        PhotoFaces(tuple(part), store, own)
        for part, own in zip(parts, (crops, crops.unvaried()), strict=True)
    )
    if not len(training) or not len(held):
        raise ShardError(
            f"Of {len(places)} photos, {len(kept)} show a face: {len(training)} for training and "
            f"{len(held)} for validation. Both must be at least one: give more shards, or change "
            "the source's held_out."
        )
    about = {
        "photos": len(training),
        "held_out": len(held),
        "left_out": {**passed, **lost},
        "tiers": sorted(Counter(tiers)),
        "shards": [place.name for place in dict.fromkeys(place.shard for place in places)],
    }
    logger.info(
        "%d photos for training, %d for validation; left out: %s",
        len(training), len(held), about["left_out"] or "none",
    )  # fmt: skip
    return training, held, about


def framed_photo(photo: RawPhoto, face: ObservedFace, size: int) -> FaceBatch:
    """Return the framed face of a photo with its labels, as a batch of one."""
    pixels = decode_photo(io.BytesIO(photo.image), name=photo.key).pixels
    frame = face_frame(face.landmarks478)
    points = crop_points(face.landmarks478, frame, size)
    jaw = torch.where(torch.arange(68) < 17, JAW_WEIGHT, 1.0)
    corresponding = list(IBUG68_FROM_DENSE478)
    manual, manual_weight = _manual21(photo.about)
    identity = person_name(photo.about)
    batch = FaceBatch(
        photo=crop_pixels(pixels, frame, size),
        landmarks68=points[corresponding],
        landmarks68_weight=face.weight478[corresponding] * jaw,
        landmarks478=points,
        landmarks478_weight=face.weight478,
        aflw21=crop_points(manual, frame, size),
        aflw21_weight=manual_weight,
        skin=skin_in_crop(face, crop_to_photo(frame, size), size, pixels.shape[:2]),
        person=torch.tensor(-1 if identity is None else person_number(identity)),
        truth=None,
    )
    return map_tensors(lambda t: t[None], batch)


def crop_to_photo(frame: FaceFrame, size: int) -> Float[Tensor, "2 3"]:
    """Return the affine from pixels of a frame's crop to photo pixels."""
    region = square_regions(frame.centre, frame.side, frame.roll)
    return region / torch.tensor([size, size, 1.0])


def _checked_person(place: PhotoPlace, tiers: Sequence[str]) -> str | None:
    card = place.read().about
    check_tier(card, tiers, of=f"{place.key} in {place.shard}")
    return person_name(card)


def _manual21(about: dict[str, Any]) -> tuple[Float[Tensor, "21 2"], Float[Tensor, "21"]]:
    given = about.get("landmarks21_xy") or [None] * 21
    points = torch.tensor([p or (0.0, 0.0) for p in given], dtype=torch.float32)
    return points, torch.tensor([float(p is not None) for p in given])


@lru_cache(maxsize=4)
def _order(seed: int, round_number: int, count: int) -> list[int]:
    generator = generator_for(seed, "order", round_number)
    return torch.randperm(count, generator=generator).tolist()
