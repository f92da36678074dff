"""Draws the parts of a bank."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from lifemask.data.bank.filling import fill_bank
from lifemask.data.bank.plan import (
    BankError,
    BankPlan,
    has_plan,
    plan_differences,
    read_plan,
    write_plan,
)
from lifemask.data.bank.records import records_of
from lifemask.data.mixture import seed_for
from lifemask.data.rerendered import RerenderedFaces
from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.io.files import make_folder
from lifemask.morphable.assets import read_card, sha256_of

_AT_ONCE = 8
"""Images that are drawn together."""


def draw_bank(
    folder: Path,
    plan: BankPlan,
    stores: Sequence[Path] = (),
    *,
    processes: int = 1,
    only: Sequence[int] = (),
) -> int:
    """Draw all parts of a bank that are missing or damaged; return how many were drawn.

    The bank does not depend on the number of processes, and not on interruptions.

    Args:
        folder: of the bank; made if needed.
        plan: what to draw. If the bank exists, only `count` may be larger than before.
        stores: the stored fits that the plan names.
        processes: that draw, each with one thread.
        only: numbers of the parts to draw; empty: all.

    Raises:
        BankError: the folder holds a bank with another plan, or there is no such part.
        OutputError: the disk is full, or the folder is not writable.
        StoredFitError: a store is missing, damaged or of another head.
    """
    make_folder(folder)
    _continue_plan(folder, plan)
    return fill_bank(
        folder,
        plan,
        partial(_part, plan, tuple(stores)),
        item_bytes=item_bytes(plan),
        processes=processes,
        only=only,
    )


def draw_part(plan: BankPlan, part: int, stores: tuple[Path, ...]) -> dict[str, np.ndarray]:
    """Return the items of a part; the same in every process, at any time.

    Args:
        plan: of the bank.
        part: its number.
        stores: the stored fits that the plan names.
    """
    seed = seed_for(plan.seed, "part", part) % 2**31
    count = plan.items(part)
    # Mixed evenly, so that every stretch of a part has the same share.
    borders = np.floor(np.arange(count + 1) * plan.rerendered)
    from_fits = np.diff(borders) > 0
    arrays: dict[str, np.ndarray] = {}
    for places, rerendered in ((~from_fits, False), (from_fits, True)):
        wanted = np.flatnonzero(places)
        for start, records in _drawn(plan, seed, len(wanted), stores, rerendered=rerendered):
            for name, values in records.items():
                if name not in arrays:
                    arrays[name] = np.empty((count, *values.shape[1:]), values.dtype)
                at = wanted[start : start + len(values)]
                arrays[name][at] = values[: len(at)]
    return arrays


def fit_sums(stores: Sequence[Path]) -> dict[str, str]:
    """Return the file names of stored fits, with their sha256.

    Raises:
        BankError: two have the same name.
    """
    sums = {store.name: sha256_of(store) for store in stores}
    if len(sums) < len(stores):
        raise BankError("Two stores of fits have the same file name. Rename one.")
    return sums


def item_bytes(plan: BankPlan) -> int:
    """Return about how many bytes a still or a clip takes."""
    pixels, texels = plan.config.size**2, plan.config.texture_size**2
    frame = 3 * pixels + pixels // 8 + 6_500 + (7 * pixels if plan.pixel_maps else 0)
    return plan.frames * (frame + (5 * texels + texels // 8 if plan.maps else 0))


def _part(plan: BankPlan, stores: tuple[Path, ...], part: int) -> Mapping[str, np.ndarray]:
    return draw_part(plan, part, stores)


def _drawn(
    plan: BankPlan, seed: int, count: int, stores: tuple[Path, ...], *, rerendered: bool
) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """Yield the number of the first item and the records of a few items, `count` or more in all."""
    size = max(1, _AT_ONCE // plan.frames)
    for index in range(-(-count // size)):
        if rerendered:
            batch = _rerendered(stores, plan.config).batch(seed, index, size)
        elif plan.kind == "clips":
            batch = _faces(stores, plan.config).clips(seed, index, size, plan.frames)
        else:
            batch = _faces(stores, plan.config).batch(seed, index, size)
        yield index * size, records_of(batch, maps=plan.maps, pixel_maps=plan.pixel_maps)


def _continue_plan(folder: Path, plan: BankPlan) -> None:
    """Write the plan of a bank, or check that it goes on with the one that is there."""
    if not has_plan(folder):
        write_plan(folder, plan)
        return
    ours, theirs = plan.document(), read_plan(folder).document()
    if lines := plan_differences({**ours, "count": 0}, {**theirs, "count": 0}):
        raise BankError(
            f"The bank {folder} was drawn with other options: {'; '.join(lines)}. Use the same "
            "options to go on with it, or draw into another folder."
        )
    if ours["count"] < theirs["count"]:
        raise BankError(
            f"The bank {folder} has {theirs['count']} {plan.kind}; wanted are {plan.count}. A bank "
            "can only grow: use a larger --count, or another folder."
        )
    if ours["count"] > theirs["count"]:
        write_plan(folder, plan)


@cache
def _faces(stores: tuple[Path, ...], config: SyntheticConfig) -> SyntheticFaces:
    """Return the generator, built once in each process."""
    return SyntheticFaces(config, surroundings=_fits(stores) if stores else None)


@cache
def _fits(stores: tuple[Path, ...]) -> FitStore:
    """Return stored fits, opened once in each process."""
    return FitStore(stores, head=read_card("head/head").sha256)


@cache
def _rerendered(stores: tuple[Path, ...], config: SyntheticConfig) -> RerenderedFaces:
    """Return the fits with the generator they share, opened once in each process."""
    return RerenderedFaces(_fits(stores), _faces(stores, config))
