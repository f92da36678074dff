"""Draws the parts of a bank, in several processes; what is already there stays."""

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from lifemask.data.bank.parts import BankPart, write_part
from lifemask.data.bank.plan import (
    BankError,
    BankPlan,
    has_plan,
    part_path,
    plan_differences,
    read_plan,
    write_plan,
)
from lifemask.data.bank.records import records_of
from lifemask.data.mixture import seed_for
from lifemask.data.rerendered import RerenderedFaces
from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.io.files import OutputError, make_folder
from lifemask.morphable.assets import read_card, sha256_of

logger = logging.getLogger(__name__)

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
    if wrong := sorted(set(only) - set(plan.parts)):
        raise BankError(
            f"The bank has no part {wrong[0]}; its parts are 0 to {len(plan.parts) - 1}."
        )
    make_folder(folder)
    _continue_plan(folder, plan)
    missing = [part for part in only or plan.parts if not _is_complete(folder, plan, part)]
    _check_space(folder, plan, missing)
    if not missing:
        return 0
    draw = partial(_draw_and_write, folder, plan, tuple(stores))
    try:
        _draw_parts(plan, missing, draw, processes)
    except BaseException:
        for part in missing:
            _remove_unfinished(folder, part)
        raise
    return len(missing)


def _draw_parts(
    plan: BankPlan, parts: Sequence[int], draw: "partial[tuple[int, float]]", processes: int
) -> None:
    started = time.monotonic()
    for done, (part, seconds) in enumerate(_results(draw, parts, processes), 1):
        images = plan.items(part) * plan.frames
        minutes = (time.monotonic() - started) / 60
        logger.info(
            "part %d, %d of %d: %d faces, %.1f a second in its process; %.1f minutes, about %.0f to go",
            part, done, len(parts), images, images / seconds, minutes,
            minutes / done * (len(parts) - done),
        )  # fmt: skip


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
    frame = 3 * pixels + pixels // 8 + 6_500
    return plan.frames * (frame + (5 * texels + texels // 8 if plan.maps else 0))


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
        yield index * size, records_of(batch, maps=plan.maps)


def _draw_and_write(
    folder: Path, plan: BankPlan, stores: tuple[Path, ...], part: int
) -> tuple[int, float]:
    started = time.monotonic()
    write_part(folder, plan, part, draw_part(plan, part, stores))
    return part, time.monotonic() - started


def _results(
    draw: "partial[tuple[int, float]]", parts: Sequence[int], processes: int
) -> Iterator[tuple[int, float]]:
    if processes < 2 or len(parts) < 2:
        yield from map(draw, parts)
        return
    # A fork would inherit the threads of numba and torch in an undefined state.
    context = multiprocessing.get_context("spawn")
    workers = min(processes, len(parts))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(os.getpid(),))
    try:
        for job in as_completed([pool.submit(draw, part) for part in parts]):
            yield job.result()
        pool.shutdown()
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
            child.join()
        if isinstance(error, BrokenProcessPool):
            raise BankError(
                "A process that draws was ended from outside, perhaps for lack of memory. Run the "
                "same command again, with fewer --processes."
            ) from error
        raise


def _start(main: int) -> None:
    """Use one thread, leave Ctrl-C to the main process, and end with it even if it is killed."""

    def watch() -> None:
        while os.getppid() == main:
            time.sleep(1)
        os._exit(1)

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=watch, daemon=True).start()


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


def _is_complete(folder: Path, plan: BankPlan, part: int) -> bool:
    _remove_unfinished(folder, part)
    if not part_path(folder, part).exists():
        return False
    try:
        BankPart(folder, plan, part).check()
    except BankError as error:
        logger.info("%s", f"Part {part} is drawn again: {error}")
        return False
    return True


def _remove_unfinished(folder: Path, part: int) -> None:
    """Remove what a process left that was killed while it wrote a part."""
    for left in folder.glob(f".{part_path(folder, part).name}.*.part"):
        left.unlink(missing_ok=True)


def _check_space(folder: Path, plan: BankPlan, parts: Sequence[int]) -> None:
    needed = sum(plan.items(part) for part in parts) * item_bytes(plan)
    free = _free_bytes(folder)
    logger.info("%d parts to draw, %.2f GB", len(parts), needed / 1e9)
    if needed > free:
        raise OutputError(
            f"Cannot draw into {str(folder)!r}: the parts need {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free. Free some space, choose another folder or a smaller "
            "--count. Parts that are there stay usable."
        )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


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
