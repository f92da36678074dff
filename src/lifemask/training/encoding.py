"""Encodes a bank: what a system's frozen layers see in varied crops is computed once."""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from lifemask.data.augmentation import augmented
from lifemask.data.bank.encoded import EncodedPlan, continue_encoded_plan
from lifemask.data.bank.faces import read_items
from lifemask.data.bank.filling import fill_bank
from lifemask.data.bank.plan import BankPlan, read_plan
from lifemask.data.bank.records import Records, records_of
from lifemask.data.mixture import generator_for
from lifemask.geometry.tensors import map_tensors
from lifemask.io.files import make_folder
from lifemask.training.config import BankSource, Recipe, TrainingError
from lifemask.training.system import System
from lifemask.training.untrained import BuildSystem, untrained_system

AT_ONCE = 16
"""Crops that are encoded together."""

_BYTES = 600_000
"""About how many bytes an encoded crop takes."""


def encode_bank(
    recipe: Recipe,
    build_system: BuildSystem,
    data: Path | None,
    folder: Path,
    *,
    source: str | None = None,
    copies: int = 1,
    processes: int = 1,
) -> int:
    """Encode a bank of a recipe; return how many parts were made.

    Args:
        recipe: its system has frozen layers.
        build_system: makes the system; it is sent to other processes.
        data: folder to which the bank's folder is relative; None: the current folder.
        folder: of the encoded bank; made if needed.
        source: name of the recipe's bank; None: the only one.
        copies: variations of each face.
        processes: that encode, each with one thread.

    Raises:
        TrainingError: no such bank, or one of several has to be named, or the system has no frozen
            layers.
        BankError: the bank is missing or damaged, or the folder holds another encoded bank.
        OutputError: the disk is full, or the folder is not writable.
    """
    if copies < 1:
        raise TrainingError(f"copies is {copies}; allowed are 1 and more.")
    varied = _bank_source(recipe, source)
    system = untrained_system(recipe, build_system)
    bank = bank_folder(varied, data)
    plan = encoded_plan(varied, read_plan(bank), system, recipe.seed, copies)
    make_folder(folder)
    continue_encoded_plan(folder, plan)
    wanted = plan.parts_of(varied.parts or tuple(plan.bank.parts))
    return fill_bank(
        folder,
        plan,
        partial(_encoded_part, bank, plan, varied, recipe, build_system),
        item_bytes=_BYTES * plan.frames,
        processes=processes,
        only=wanted,
    )


def _bank_source(recipe: Recipe, name: str | None) -> BankSource:
    banks = {n: source for n, source in recipe.sources.items() if isinstance(source, BankSource)}
    if name is None and len(banks) == 1:
        (name,) = banks
    if name not in banks:
        found = f"its banks are {', '.join(banks)}" if banks else "none of its sources is a bank"
        choice = " Choose one with --source." if banks else ""
        raise TrainingError(
            f"The recipe {recipe.name} cannot be encoded{'' if name is None else f' from {name!r}'}: "
            f"{found}.{choice}"
        )
    return banks[name]


def bank_folder(source: BankSource, data: Path | None) -> Path:
    """Return the folder of a source's bank."""
    folder = Path(source.folder).expanduser()
    return folder if data is None else data / folder


def encoded_plan(
    source: BankSource, bank: BankPlan, system: System, seed: int, copies: int = 1
) -> EncodedPlan:
    """Return the plan of an encoded bank.

    Args:
        source: how the bank is varied.
        bank: its plan.
        system: whose frozen layers see the crops.
        seed: of the variations.
        copies: variations of each face.

    Raises:
        TrainingError: the system has no frozen layers, or the crops of the bank are too small.
    """
    size = system.crop_size
    with torch.no_grad():
        if system.frozen_features(torch.zeros(1, 3, size, size)) is None:
            raise TrainingError(
                f"The system {system.name} has no layers that never learn, so there is nothing to "
                "encode. Train it with the bank itself."
            )
    check_side(source, bank, size)
    return EncodedPlan(
        bank, copies, size, encoder_version(system), dataclasses.asdict(source.augmentation), seed
    )


def check_side(source: BankSource, bank: BankPlan, crop_size: int) -> None:
    """Check that a bank's crops are large enough.

    Raises:
        TrainingError: they are too small.
    """
    if bank.side < crop_size:
        raise TrainingError(
            f"The bank {source.folder} has frames of {bank.side} pixels; the system needs "
            f"{crop_size}. Draw a bank with --size {crop_size}, or use a system with smaller crops."
        )


def encoder_version(system: System) -> str:
    """Return sixteen hexadecimal digits that change with any frozen weight of a system.

    Names play no part: systems that have the same frozen layers share encoded banks.
    """
    frozen = sorted(
        hashlib.sha256(
            f"{tuple(parameter.shape)}".encode()
            + parameter.detach().cpu().contiguous().numpy().data
        ).hexdigest()
        for parameter in system.frozen_parameters()
    )
    return hashlib.sha256(" ".join([str(system.crop_size), *frozen]).encode()).hexdigest()[:16]


def _encoded_part(
    folder: Path,
    plan: EncodedPlan,
    source: BankSource,
    recipe: Recipe,
    build_system: BuildSystem,
    part: int,
) -> Records:
    import numpy as np

    system = _system(recipe, build_system, plan.encoder)
    generator = generator_for(plan.seed, "encoded", part)
    number = part % len(plan.bank.parts)
    pieces: list[Mapping[str, np.ndarray]] = []
    for start in range(0, plan.items(part), AT_ONCE):
        items = range(start, min(start + AT_ONCE, plan.items(part)))
        batch = augmented(
            read_items(folder, plan.bank, number, items),
            source.augmentation,
            generator,
            side=plan.bank.side,
            size=plan.size,
        )
        axes = batch.photo.shape[:-3]
        with torch.no_grad():
            seen = system.frozen_features(batch.photo.flatten(0, -4))
        features = map_tensors(lambda t, axes=axes: t.unflatten(0, axes), seen)
        pieces.append(records_of(dataclasses.replace(batch, features=features), maps=False))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


_systems: dict[str, System] = {}
"""Systems that encode in this process, by the version of their frozen layers."""


def _system(recipe: Recipe, build_system: BuildSystem, version: str) -> System:
    if version not in _systems:
        _systems[version] = untrained_system(recipe, build_system).eval()
    return _systems[version]
