"""Fills a bank with parts, in several processes; what is already there stays."""

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch

from lifemask.data.bank.parts import BankPart, write_part
from lifemask.data.bank.plan import BankError, PartsPlan, part_path
from lifemask.data.bank.records import Records
from lifemask.io.files import OutputError

logger = logging.getLogger(__name__)

MakePart = Callable[[int], Records]
"""Makes the items of the part of a number. It is sent to other processes."""


def fill_bank(
    folder: Path,
    plan: PartsPlan,
    make: MakePart,
    *,
    item_bytes: int,
    processes: int = 1,
    only: Sequence[int] = (),
) -> int:
    """Make all parts of a bank that are missing or damaged; return how many were made.

    Args:
        folder: of the bank, with its plan.
        plan: of the bank.
        make: a part; the same for every process, at any time.
        item_bytes: about how many bytes an item takes.
        processes: that make parts, each with one thread.
        only: numbers of the parts to make; empty: all.

    Raises:
        BankError: there is no such part, or a process was ended from outside.
        OutputError: the disk is full, or the folder is not writable.
    """
    if wrong := sorted(set(only) - set(plan.parts)):
        raise BankError(
            f"The bank has no part {wrong[0]}; its parts are 0 to {len(plan.parts) - 1}."
        )
    missing = [part for part in only or plan.parts if not _is_complete(folder, plan, part)]
    _check_space(folder, sum(plan.items(part) for part in missing) * item_bytes, len(missing))
    if not missing:
        return 0
    try:
        _make_parts(plan, missing, partial(_make_and_write, folder, plan, make), processes)
    except BaseException:
        for part in missing:
            _remove_unfinished(folder, part)
        raise
    return len(missing)


def _make_parts(
    plan: PartsPlan, parts: Sequence[int], make: "partial[tuple[int, float]]", processes: int
) -> None:
    started = time.monotonic()
    for done, (part, seconds) in enumerate(_results(make, parts, processes), 1):
        images = plan.items(part) * plan.frames
        minutes = (time.monotonic() - started) / 60
        logger.info(
            "part %d, %d of %d: %d faces, %.1f a second in its process; %.1f minutes, about %.0f to go",
            part, done, len(parts), images, images / seconds, minutes,
            minutes / done * (len(parts) - done),
        )  # fmt: skip


def _make_and_write(folder: Path, plan: PartsPlan, make: MakePart, part: int) -> tuple[int, float]:
    started = time.monotonic()
    write_part(folder, plan, part, make(part))
    return part, time.monotonic() - started


def _results(
    make: "partial[tuple[int, float]]", parts: Sequence[int], processes: int
) -> Iterator[tuple[int, float]]:
    if processes < 2 or len(parts) < 2:
        yield from map(make, parts)
        return
    # A fork would inherit the threads of numba and torch in an undefined state.
    context = multiprocessing.get_context("spawn")
    workers = min(processes, len(parts))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(os.getpid(),))
    try:
        for job in as_completed([pool.submit(make, part) for part in parts]):
            yield job.result()
        pool.shutdown()
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
            child.join()
        if isinstance(error, BrokenProcessPool):
            raise BankError(
                "A process that makes parts was ended from outside, perhaps for lack of memory. Run the "
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


def _is_complete(folder: Path, plan: PartsPlan, part: int) -> bool:
    _remove_unfinished(folder, part)
    if not part_path(folder, part).exists():
        return False
    try:
        BankPart(folder, plan, part).check()
    except BankError as error:
        logger.info("%s", f"Part {part} is made again: {error}")
        return False
    return True


def _remove_unfinished(folder: Path, part: int) -> None:
    """Remove what a process left that was killed while it wrote a part."""
    for left in folder.glob(f".{part_path(folder, part).name}.*.part"):
        left.unlink(missing_ok=True)


def _check_space(folder: Path, needed: int, parts: int) -> None:
    free = _free_bytes(folder)
    logger.info("%d parts to make, %.2f GB", parts, needed / 1e9)
    if needed > free:
        raise OutputError(
            f"Cannot write into {str(folder)!r}: the parts need {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free. Free some space, choose another folder or fewer items. "
            "Parts that are there stay usable."
        )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
