"""A bank as a source of faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from lifemask.data.bank.parts import BankPart
from lifemask.data.bank.plan import BankError, BankPlan, PartsPlan, read_plan
from lifemask.data.bank.records import batch_of
from lifemask.data.bank.version import generator_version
from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import generator_for


# Compared by identity: a plan has a mapping, which has no hash.
@dataclass(frozen=True, eq=False)
class BankFaces:
    """Crops of a bank with their margin, in an order that each pass over the bank draws anew.

    Batches have one axis for stills, and axes (size, frames) for clips.
    """

    folder: Path
    """Of the bank."""
    plan: PartsPlan
    """Of the bank."""
    parts: tuple[int, ...]
    """Numbers of the parts to read."""
    seed: int
    """Of the order."""
    held_out: float
    """Share of each part that is held out, its last items; at least one."""
    shows_held_out: bool = False
    """Whether it gives the items that are held out, instead of the others."""
    device: str = "cpu"
    """Where batches are made."""

    def __len__(self) -> int:
        """Return how many stills or clips there are."""
        return len(self._items())

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch; see `FaceSource`.

        Raises:
            BankError: a part is missing or damaged.
        """
        items = self._items()
        numbers = range(index * size, (index + 1) * size)
        chosen = [
            items[_order(self.seed, n // len(items), len(items))[n % len(items)]] for n in numbers
        ]
        # One part after the other, then back in their order.
        by_part = sorted(range(size), key=lambda place: chosen[place])
        pieces = [
            _opened(self.folder, self.plan, part).read([chosen[place][1] for place in places])
            for part, places in groupby(by_part, key=lambda place: chosen[place][0])
        ]
        back = np.argsort(by_part)
        return batch_of(
            {name: np.concatenate([piece[name] for piece in pieces])[back] for name in pieces[0]}
        )

    def _items(self) -> tuple[tuple[int, int], ...]:
        counts = tuple(self.plan.items(part) for part in self.parts)
        return _chosen_items(self.parts, counts, self.held_out, self.shows_held_out)


def read_items(folder: Path, plan: PartsPlan, part: int, items: Sequence[int]) -> FaceBatch:
    """Return some items of one part, in their order.

    Raises:
        BankError: the part is missing or damaged.
    """
    return batch_of(_opened(folder, plan, part).read(items))


def open_bank(
    folder: Path,
    *,
    parts: Sequence[int] = (),
    held_out: float = 0.02,
    seeds: tuple[int, int] = (0, 1),
    any_version: bool = False,
) -> tuple[BankFaces, BankFaces]:
    """Return the faces of a bank to train on, and those to validate on.

    The header of each part is checked here; the bytes of each item when it is read.

    Args:
        folder: of the bank.
        parts: numbers of the parts to use; empty: all.
        held_out: share of each part to validate on; at least one still or clip of each.
        seeds: of the order of the faces to train on, and of those to validate on.
        any_version: accept a bank that another version of the generator drew.

    Raises:
        BankError: the bank or a part is missing, truncated, older, or belongs to another bank.
    """
    plan = read_plan(folder)
    check_generator(folder, plan, any_version=any_version)
    if wrong := sorted(set(parts) - set(plan.parts)):
        raise BankError(
            f"The bank {folder} has no part {wrong[0]}; its parts are 0 to {len(plan.parts) - 1}."
        )
    chosen = tuple(sorted(set(parts))) or tuple(plan.parts)
    return faces_of(folder, plan, chosen, held_out, seeds)


def check_generator(folder: Path, plan: BankPlan, *, any_version: bool) -> None:
    """Check that the present generator draws what is in a bank.

    Args:
        folder: named in the message.
        plan: of the bank.
        any_version: accept every version.

    Raises:
        BankError: another version drew it.
    """
    ours = generator_version()
    if plan.generator != ours and not any_version:
        raise BankError(
            f"The bank {folder} was drawn by the version {plan.generator} of the generator; in use "
            f"is {ours}. Draw it again in another folder with `lifemask draw`, or accept it as it is: "
            "sources.NAME.any_version=true"
        )


def faces_of(
    folder: Path,
    plan: PartsPlan,
    parts: tuple[int, ...],
    held_out: float,
    seeds: tuple[int, int],
) -> tuple[BankFaces, BankFaces]:
    """Return the faces of some parts to train on, and those to validate on; see `open_bank`.

    Raises:
        BankError: a part is missing, truncated, or belongs to another bank, or has too few faces.
    """
    if not 0 < held_out < 1:
        raise BankError(f"held_out is {held_out}; allowed are shares between 0 and 1.")
    for part in parts:
        _open_parts[folder, part] = BankPart(folder, plan, part)
    training, validation = (
        BankFaces(folder, plan, parts, seed, held_out, shows)
        for seed, shows in zip(seeds, (False, True), strict=True)
    )
    if len(training) == 0:
        raise BankError(
            f"The bank {folder} has no faces to train on besides those held out. Draw more: "
            "use a larger --count."
        )
    return training, validation


_open_parts: dict[tuple[Path, int], BankPart] = {}
"""Parts that are open in this process."""


def _opened(folder: Path, plan: PartsPlan, part: int) -> BankPart:
    if (folder, part) not in _open_parts:
        _open_parts[folder, part] = BankPart(folder, plan, part)
    return _open_parts[folder, part]


@cache
def _chosen_items(
    parts: tuple[int, ...], counts: tuple[int, ...], held_out: float, shows_held_out: bool
) -> tuple[tuple[int, int], ...]:
    """Return (part, item) of all items to give."""
    found: list[tuple[int, int]] = []
    for part, count in zip(parts, counts, strict=True):
        first = count - max(round(count * held_out), 1)
        found += [
            (part, item) for item in (range(first, count) if shows_held_out else range(first))
        ]
    return tuple(found)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    return torch.randperm(count, generator=generator_for(seed, "order", epoch)).tolist()
