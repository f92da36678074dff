"""From a recipe's names and numbers to the parts that train."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lifemask.data.bank.plan import BankError
from lifemask.data.clips import open_clips
from lifemask.data.mixture import FaceSource, Mixture, batch_sizes, seed_for
from lifemask.data.photo_faces import FaceCrops, open_photos
from lifemask.data.photos import ShardError, find_files
from lifemask.data.stored_fits import StoredFitError
from lifemask.training.config import (
    BankSource,
    ClipSource,
    PhotoSource,
    Recipe,
    RerenderedSource,
    Source,
    SyntheticClipSource,
    SyntheticSource,
    TrainingError,
)
from lifemask.training.loop import TrainingParts
from lifemask.training.sources import (
    RerenderedFaceSource,
    SyntheticFaceSource,
    VariedSource,
    open_bank_source,
    synthetic_config,
)
from lifemask.training.sources import SyntheticClipSource as SyntheticClipFaces
from lifemask.training.system import System
from lifemask.training.untrained import BuildSystem, untrained_system
from lifemask.training.weights import start_from


def build_parts(
    recipe: Recipe,
    build_system: BuildSystem,
    data: Path | None,
    *,
    workers: int = 0,
    device: str = "auto",
) -> TrainingParts:
    """Build all that a recipe names, and check that its data is there.

    Args:
        recipe: what to build.
        build_system: makes the system that the recipe names.
        data: folder of photos and clips; only needed by recipes that use some.
        workers: processes that observe photos which were never observed before.
        device: where the training will run; faces are generated on a GPU if it runs there.

    Raises:
        TrainingError: a name, an option or a file is wrong; says what is allowed.
    """
    system = untrained_system(recipe, build_system)
    try:
        sizes = batch_sizes({k: s.share for k, s in recipe.sources.items()}, recipe.batch_size)
    except ValueError as error:
        raise TrainingError(str(error)) from error
    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    generator = "cuda" if on_cuda else "cpu"
    training: dict[str, FaceSource] = {}
    held_out: dict[str, FaceSource] = {}
    about: dict[str, Any] = {}
    if recipe.start_from is not None:
        about["start_from"] = start_from(system, Path(recipe.start_from))
    for name in sizes:
        try:
            training[name], held_out[name], about[name] = _sources(
                name, recipe.sources[name], recipe, system, data, workers, generator
            )
        except (ShardError, StoredFitError, BankError) as error:
            raise TrainingError(f"Source {name!r}: {error}") from error
    return TrainingParts(
        system,
        Mixture(training, sizes),
        Mixture(held_out, dict.fromkeys(sizes, recipe.validation_images)),
        about,
    )


def _sources(
    name: str,
    source: Source,
    recipe: Recipe,
    system: System,
    data: Path | None,
    workers: int,
    device: str,
) -> tuple[FaceSource, FaceSource, Mapping[str, Any]]:
    """Return the source to train on, the one held out, and what the log says of them."""
    training_seed, held_out_seed = (
        seed_for(recipe.seed, name, use) % 2**31 for use in ("training", "held out")
    )
    match source:
        case SyntheticSource() | RerenderedSource():
            if source.repeats < 1:
                raise TrainingError(f"repeats is {source.repeats}; allowed are 1 and more.")
            config = synthetic_config(source.options, system.crop_size)
            stores = tuple(find_files(data, source.stores))
            synthetic = isinstance(source, SyntheticSource)
            drawn = SyntheticFaceSource if synthetic else RerenderedFaceSource
            training, held_out = (
                VariedSource(
                    drawn(config=config, seed=seed, stores=stores, device=device),
                    source.augmentation,
                    repeats,
                )
                for seed, repeats in ((training_seed, source.repeats), (held_out_seed, 1))
            )
            about = {"kind": "synthetic" if synthetic else "rerendered", "tiers": []}
            return training, held_out, {**about, "stores": [store.name for store in stores]}
        case SyntheticClipSource():
            config = synthetic_config(source.options, system.crop_size)
            stores = tuple(find_files(data, source.stores))
            training, held_out = (
                VariedSource(
                    SyntheticClipFaces(config, seed, source.frames, stores, device),
                    source.augmentation,
                    repeats=1,
                )
                for seed in (training_seed, held_out_seed)
            )
            about = {"kind": "synthetic clips", "tiers": []}
            return training, held_out, {**about, "stores": [store.name for store in stores]}
        case BankSource():
            seeds = (training_seed, held_out_seed)
            return open_bank_source(source, data, system, seeds, recipe.seed)
        case PhotoSource():
            training, held_out, about = open_photos(
                data,
                source.shards,
                tiers=source.tiers,
                held_out=source.held_out,
                crops=FaceCrops(system.crop_size, training_seed, source.augmentation),
                limit=source.limit,
                workers=workers,
            )
            return training, held_out, {"kind": "photos", **about}
        case ClipSource():
            training, held_out, about = open_clips(
                data,
                source.videos,
                tiers=source.tiers,
                frames=source.frames,
                crops=FaceCrops(system.crop_size, training_seed, source.augmentation),
                workers=workers,
            )
            return training, held_out, {"kind": "clips", **about}
