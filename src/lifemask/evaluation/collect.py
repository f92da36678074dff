"""A system's predictions for photos: from the cache if they are finished, else by processes."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.cache import PredictionCache
from lifemask.evaluation.config import EvaluationConfig, EvaluationError, Quality
from lifemask.evaluation.datasets import development_folder
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.protocol import StoredOutputs, System
from lifemask.evaluation.systems.registry import load_system

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Request:
    """One photo, and how to predict it."""

    key: str
    """Name of the photo within its benchmark."""
    load: Callable[[], UInt8[np.ndarray, "H W 3"]]
    """A function that returns the sRGB photo."""
    crop: bool
    """Whether the whole photo is the face."""
    quality: Quality
    """Quality of the fit."""
    keep: tuple[str, ...]
    """Fields of the prediction that the benchmark reads; the others are not stored."""


Progress = Callable[[str, int, int], None]
"""A function of a label, the number of finished photos, and the number of all photos."""


def silent(label: str, done: int, total: int) -> None:
    """Report nothing."""


def collect(
    system: str,
    benchmark: str,
    requests: list[Request],
    config: EvaluationConfig,
    *,
    development: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Prediction | None]:
    """Return a system's prediction for each requested photo, by key; None if it has none.

    Args:
        system: its name, as `load_system` takes it.
        benchmark: its name, for stored outputs.
        requests: the photos.
        config: where finished predictions are kept, and how many processes predict.
        development: folder of stored outputs of other programs; default: `dev` of the data.
        progress: is told about finished photos.

    Raises:
        EvaluationError: the system is unknown, or fails on a photo, which the message names.
    """
    if development is None:
        development = development_folder(config.data)
    loaded = load_system(system, development)
    if isinstance(loaded, StoredOutputs):
        return {r.key: loaded.stored(benchmark, r.key) for r in requests}
    cache = PredictionCache.for_system(config.cache, loaded.name, loaded.version)
    predictions: dict[str, Prediction | None] = {}
    waiting: list[tuple[Request, Path]] = []
    for request in requests:
        path = cache.path(
            request.load(), crop=request.crop, quality=request.quality, keep=request.keep
        )
        finished, prediction = cache.read(path)
        if finished:
            predictions[request.key] = prediction
        else:
            waiting.append((request, path))
    label = f"{benchmark}, {config.label(system)}"
    for key, prediction in _predict(loaded, system, waiting, cache, config.workers, development):
        predictions[key] = prediction
        progress(label, len(predictions), len(requests))
    return {r.key: predictions[r.key] for r in requests}


def is_stored(system: str, development: Path) -> bool:
    """Return whether a system is a set of stored outputs, which may be incomplete."""
    return isinstance(load_system(system, development), StoredOutputs)


def _predict(
    system: System,
    name: str,
    waiting: list[tuple[Request, Path]],
    cache: PredictionCache,
    workers: int,
    development: Path,
) -> Iterator[tuple[str, Prediction | None]]:
    if workers <= 1 or len(waiting) <= 1:
        for request, path in waiting:
            yield request.key, _predict_one(system, request, request.load(), path, cache)
        return
    workers = min(workers, len(waiting))
    with _one_thread_each():
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(name, development),
        )
        try:
            running: dict[Future[Prediction | None], str] = {}
            # Only a few photos wait in memory at the same time.
            for request, path in waiting:
                if len(running) >= 2 * workers:
                    yield from _finished(running)
                task = pool.submit(_work, _without_loader(request), request.load(), path, cache)
                running[task] = request.key
            while running:
                yield from _finished(running)
        finally:
            pool.shutdown(cancel_futures=True)


def _finished(
    running: dict[Future[Prediction | None], str],
) -> Iterator[tuple[str, Prediction | None]]:
    """Wait for at least one task; yield and remove those that are done."""
    for task in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(task), task.result()


def _predict_one(
    system: System,
    request: Request,
    pixels: UInt8[np.ndarray, "H W 3"],
    path: Path,
    cache: PredictionCache,
) -> Prediction | None:
    try:
        prediction = system.predict(
            pixels, crop=request.crop, quality=request.quality, fields=request.keep
        )
    except EvaluationError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"{system.name} failed on photo {request.key!r} with {type(error).__name__}: {error}"
        ) from error
    kept = None if prediction is None else prediction.keep(request.keep)
    cache.write(path, kept)
    return kept


_worker_systems: dict[str, System] = {}


def _start_worker(name: str, development: Path) -> None:
    system = load_system(name, development)
    assert isinstance(system, System)
    _worker_systems["system"] = system


def _work(
    request: Request, pixels: UInt8[np.ndarray, "H W 3"], path: Path, cache: PredictionCache
) -> Prediction | None:
    return _predict_one(_worker_systems["system"], request, pixels, path, cache)


def _nothing() -> UInt8[np.ndarray, "H W 3"]:
    return np.zeros((1, 1, 3), np.uint8)


def _without_loader(request: Request) -> Request:
    """Return the request without its loader, which may not be picklable."""
    return Request(request.key, _nothing, request.crop, request.quality, request.keep)


@contextmanager
def _one_thread_each() -> Generator[None]:
    """Make new processes start with one thread; libraries read these variables when they load."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
