"""Numba compilation with a disk cache, if a folder is writable, and a small thread pool."""

import inspect
import os
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

try:
    import numba
    from numba.core import config
except ImportError:
    # Modules with kernels can still be imported; the numba backend is not available then.
    numba = config = None

# These change only the last bits of results. Coverage and depth order must be the same everywhere;
# the kernel that decides them is compiled without.
_FAST_MATH = {"contract", "nsz", "arcp", "reassoc"}

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def kernel(*, exact: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function without the GIL and cache it on disk.

    Numba caches beside the source, else in the user's cache folder. If neither is writable, a
    private folder in the temporary directory is used. If that fails too, nothing is cached, and the
    first call of each process takes some seconds.

    Args:
        exact: whether to leave out optimisations that change the last bits.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": False if exact else _FAST_MATH,
    }

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # The tests' type checks wrap every function; numba needs the inner one.
        function = inspect.unwrap(function)
        if numba is None:
            return function
        try:
            return numba.njit(cache=True, **options)(function)
        except (RuntimeError, OSError):
            pass
        folder = _private_temporary_folder()
        if folder is not None:
            settings: Any = config
            previous = settings.CACHE_DIR
            settings.CACHE_DIR = str(folder)
            try:
                return numba.njit(cache=True, **options)(function)
            except (RuntimeError, OSError):
                pass
            finally:
                settings.CACHE_DIR = previous
        return numba.njit(**options)(function)

    return decorate


def run_in_threads(task: Callable[[int], None], workers: int) -> None:
    """Call task(0) … task(workers - 1): the first in this thread, the others in a thread pool.

    Torch's OpenMP becomes very slow if another program uses the cores, and numba's own layers abort
    with several threads or after a fork. Plain threads have neither problem.
    """
    if workers == 1:
        task(0)
        return
    key = (os.getpid(), workers)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools[key] = ThreadPoolExecutor(workers - 1, thread_name_prefix="lifemask")
    waiting = [pool.submit(task, worker) for worker in range(1, workers)]
    task(0)
    for future in waiting:
        future.result()


def for_each(task: Callable[[int], None], count: int) -> None:
    """Call task(0) … task(count - 1), spread over the threads."""
    workers = worker_count(count)

    def work(worker: int) -> None:
        for number in range(worker, count, workers):
            task(number)

    run_in_threads(work, workers)


def worker_count(units: int) -> int:
    """Return the number of threads for `units` independent tasks, at most torch's number."""
    return max(1, min(torch.get_num_threads(), units))


def _private_temporary_folder() -> Path | None:
    """Return a cache folder that only this user can write, or None.

    A cache file is code; a file from another user must never be loaded.
    """
    owner = os.getuid() if hasattr(os, "getuid") else None
    folder = (
        Path(tempfile.gettempdir()) / f"lifemask-numba-{owner if owner is not None else 'user'}"
    )
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    return folder if private and (owner is None or status.st_uid == owner) else None
