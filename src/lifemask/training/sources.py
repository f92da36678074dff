"""Generated faces as sources of batches; the same for the same step, in every process."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.encoded import open_encoded, read_encoded_plan
from lifemask.data.bank.faces import BankFaces, check_generator, open_bank
from lifemask.data.bank.plan import read_plan
from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import generator_for
from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.assets import read_card
from lifemask.training.config import BankSource, TrainingError, Value
from lifemask.training.encoding import bank_folder, check_side, encoded_plan
from lifemask.training.system import System

if TYPE_CHECKING:
    from lifemask.data.rerendered import RerenderedFaces

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyntheticFaceSource:
    """Synthetic faces."""

    config: SyntheticConfig
    """Of the generator."""
    seed: int
    """Of the endless stream, 0 or more."""
    stores: tuple[Path, ...] = ()
    """Tars of stored fits whose backgrounds are used behind some of the faces."""
    device: str = "cpu"
    """Where they are drawn; other devices than the CPU draw in the training process."""

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`."""
        return _faces(self.config, self.stores, self.device).batch(self.seed, index, size)


@dataclass(frozen=True)
class RerenderedFaceSource:
    """Fitted photos, re-rendered."""

    stores: tuple[Path, ...]
    """Tars of stored fits."""
    config: SyntheticConfig
    """Cameras, lights and camera degradations."""
    seed: int
    """Of the endless stream, 0 or more."""
    device: str = "cpu"
    """Where they are drawn; other devices than the CPU draw in the training process."""

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`."""
        return _rerendered(self.stores, self.config, self.device).batch(self.seed, index, size)


@dataclass(frozen=True)
class SyntheticClipSource:
    """Clips of synthetic people: batches have axes (size, frames)."""

    config: SyntheticConfig
    """Of the generator."""
    seed: int
    """Of the endless stream, 0 or more."""
    frames: int
    """Frames of each clip, 1 or more."""
    stores: tuple[Path, ...] = ()
    """Tars of stored fits whose backgrounds are used behind some of the faces."""
    device: str = "cpu"
    """Where they are drawn; other devices than the CPU draw in the training process."""

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`."""
        faces = _faces(self.config, self.stores, self.device)
        return faces.clips(self.seed, index, size, self.frames)


@dataclass(frozen=True)
class VariedSource:
    """A source's faces or clips, each in several variations beside each other.

    Drawing a face costs more than training on it, and variations of one face help nearly as much as
    new faces (Hoffer et al., "Augment your batch", CVPR 2020).
    """

    source: SyntheticFaceSource | SyntheticClipSource | RerenderedFaceSource | BankFaces
    """Where faces come from."""
    augmentation: Augmentation
    """Strengths of the variations."""
    repeats: int
    """Variations of each face in a batch."""
    side: int | None = None
    """Pixels on a side of the frame in the middle of the source's crops; None: the whole crop."""
    size: int | None = None
    """Pixels on a side of the varied crops; None: those of the frame."""

    @property
    def device(self) -> str:
        """Where faces are drawn."""
        return self.source.device

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`."""
        drawn = self.source.batch(index, math.ceil(size / self.repeats))
        faces = map_tensors(lambda t: t.repeat_interleave(self.repeats, 0)[:size], drawn)
        return augmented(
            faces,
            self.augmentation,
            generator_for(self.source.seed, "augmentation", index),
            side=self.side,
            size=self.size,
        )


def open_bank_source(
    source: BankSource,
    data: Path | None,
    system: System,
    seeds: tuple[int, int],
    recipe_seed: int,
) -> tuple[VariedSource | BankFaces, VariedSource | BankFaces, dict[str, Any]]:
    """Return a bank to train on, its held-out faces, and what the log says of them.

    Args:
        source: which bank, and how it is varied.
        data: folder to which the bank's folder is relative; None: the current folder.
        system: that learns from it.
        seeds: of the faces to train on, and of those held out.
        recipe_seed: of the variations of an encoded bank.

    Raises:
        BankError: the bank or a part is missing, damaged, or not the right one.
        TrainingError: the crops of the bank are too small, or `repeats` is wrong.
    """
    if source.repeats < 1:
        raise TrainingError(f"repeats is {source.repeats}; allowed are 1 and more.")
    folder = bank_folder(source, data)
    if source.encoded is None:
        training, held_out = open_bank(
            folder,
            parts=source.parts,
            held_out=source.held_out,
            seeds=seeds,
            any_version=source.any_version,
        )
        plan = read_plan(folder)
        check_side(source, plan, system.crop_size)
        varied, held = (
            VariedSource(faces, source.augmentation, repeats, side=plan.side, size=system.crop_size)
            for faces, repeats in ((training, source.repeats), (held_out, 1))
        )
    else:
        path = Path(source.encoded).expanduser()
        path = path if data is None else data / path
        plan = read_encoded_plan(path).bank
        check_generator(path, plan, any_version=source.any_version)
        varied, held = training, held_out = open_encoded(
            path,
            encoded_plan(source, plan, system, recipe_seed),
            parts=source.parts,
            held_out=source.held_out,
            seeds=seeds,
        )
    about: dict[str, Any] = {
        "kind": f"bank of {plan.kind}",
        "tiers": [],
        "stores": sorted(plan.stores),
        "generator": plan.generator,
        "parts": len(training.parts),
        "training": len(training),
        "held_out": len(held_out),
    }
    return varied, held, about


RENAMED_OPTIONS = {"faults": "degradations"}
"""Options of synthetic faces under earlier names, and what they are called now."""


def synthetic_config(options: Mapping[str, Value], size: int) -> SyntheticConfig:
    """Return the generator's configuration for crops of a size.

    Earlier names of options are still understood, with a note in the log.

    Raises:
        TrainingError: an unknown option, or a value that cannot be.
    """
    known = {field.name for field in fields(SyntheticConfig)} - {"size"}
    for name in sorted(set(options) & set(RENAMED_OPTIONS)):
        logger.info(
            "The option %s of synthetic faces is now called %s.", name, RENAMED_OPTIONS[name]
        )
    values: dict[str, Any] = {RENAMED_OPTIONS.get(name, name): v for name, v in options.items()}
    if unknown := sorted(set(values) - known):
        raise TrainingError(
            f"Synthetic faces have no option {', '.join(unknown)}. They have: "
            f"{', '.join(sorted(known))}."
        )
    try:
        return SyntheticConfig(size=size, **values)
    except (TypeError, ValueError) as error:
        raise TrainingError(str(error)) from error


@cache
def _faces(config: SyntheticConfig, stores: tuple[Path, ...], device: str) -> SyntheticFaces:
    """Return the generator, built once in each process."""
    return SyntheticFaces(config, surroundings=_fits(stores) if stores else None, device=device)


@cache
def _fits(stores: tuple[Path, ...]) -> FitStore:
    """Return stored fits, opened once in each process."""
    return FitStore(stores, head=read_card("head/head").sha256)


@cache
def _rerendered(
    stores: tuple[Path, ...], config: SyntheticConfig, device: str
) -> "RerenderedFaces":
    """Return the fits with the generator they share, opened once in each process."""
    from lifemask.data.rerendered import RerenderedFaces

    return RerenderedFaces(_fits(stores), _faces(config, stores, device))
