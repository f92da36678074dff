"""Reconstructing several photos at the same time, each in a process of its own."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifemask.cli.exit_codes import TERMINATED
from lifemask.cli.photo_plan import PlannedPhoto
from lifemask.cli.photo_work import Loader, PhotoResult, PhotoWork, SetupError
from lifemask.cli.reconstruct_options import ReconstructOptions

_SECONDS_TO_LEAVE = 20.0
"""How long a process may take to remove half-written files and end."""


def results_of_processes(
    photos: Sequence[PlannedPhoto],
    options: ReconstructOptions,
    folder: Path,
    load: Loader,
    *,
    on_stage: Callable[[PlannedPhoto, str], None],
) -> Generator[PhotoResult]:
    """Yield the result of each photo as soon as it is finished.

    If a process ends unexpectedly, for example because the memory is full, its photo fails and the
    others continue. If the caller stops early, all processes end and remove half-written files.

    Args:
        photos: what is to be done.
        options: how; `jobs` is the number of processes.
        folder: for the results.
        load: makes the reconstructor in each process; it must be importable there.
        on_stage: told about each photo that is begun and about its stages.

    Raises:
        SetupError: the reconstructor could not be built.
    """
    waiting = deque(photos)
    workers: list[_Worker] = []
    try:
        for _ in range(min(options.jobs, len(photos))):
            workers.append(_Worker.start(options, folder, load))
        for worker in workers:
            worker.begin(waiting, on_stage)
        while busy := {worker.connection: worker for worker in workers if worker.photo}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # pyright: ignore[reportArgumentType] - wait() says object
                photo = worker.photo
                assert photo is not None
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    message = PhotoResult(
                        photo.source.path,
                        "failed",
                        "its process ended unexpectedly; if the memory is full, use fewer --jobs",
                    )
                    worker.end()
                    workers.remove(worker)
                    if waiting:
                        worker = _Worker.start(options, folder, load)
                        workers.append(worker)
                if isinstance(message, str):
                    on_stage(photo, message)
                elif isinstance(message, SetupError):
                    raise message
                else:
                    worker.begin(waiting, on_stage)
                    yield message
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()


@dataclass
class _Worker:
    """A process, the connection to it, and the photo on which it works."""

    process: BaseProcess
    connection: Connection
    photo: PlannedPhoto | None = None

    @classmethod
    def start(cls, options: ReconstructOptions, folder: Path, load: Loader) -> "_Worker":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, options, folder, load), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def begin(
        self, waiting: deque[PlannedPhoto], on_stage: Callable[[PlannedPhoto, str], None]
    ) -> None:
        """Take the next photo, if there is one."""
        self.photo = waiting.popleft() if waiting else None
        if self.photo is not None:
            on_stage(self.photo, "starting")
            # If the process has died, reading its answer will say so.
            with suppress(OSError):
                self.connection.send(self.photo)

    def end(self) -> None:
        """Wait for the end of the process, and force it if it does not come."""
        self.connection.close()
        self.process.join(_SECONDS_TO_LEAVE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(connection: Connection, options: ReconstructOptions, folder: Path, load: Loader) -> None:
    """Reconstruct the photos that arrive, in a process of its own, until the connection closes."""
    # Ctrl-C reaches all processes of a terminal; the first process decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    _share_cores(options.jobs)
    work = PhotoWork(options, folder, load)
    with suppress(EOFError, BrokenPipeError):
        while True:
            photo: PlannedPhoto = connection.recv()
            try:
                answer = work.photo(photo, on_stage=connection.send)
            except SetupError as error:
                answer = error
            connection.send(answer)


def _share_cores(jobs: int) -> None:
    """Use a part of the cores, unless the environment states the number of threads."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))


def _leave(*_: object) -> None:
    """End after half-written files are removed."""
    raise SystemExit(TERMINATED)
