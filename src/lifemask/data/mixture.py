"""Batches from several sources in fixed proportions; each batch depends only on its index."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lifemask.data.batch import FaceBatch


@runtime_checkable
class FaceSource(Protocol):
    """A source of batches. It is pickled and sent to other processes; therefore it loads lazily."""

    def batch(self, index: int, size: int) -> FaceBatch:
        """Return a batch of `size` images or clips; it depends only on the index."""
        ...


@dataclass(frozen=True)
class Mixture:
    """Several sources, and the part of a batch that each gives."""

    sources: Mapping[str, FaceSource]
    """The sources by name."""
    sizes: Mapping[str, int]
    """Images (or clips) in a batch from each source."""

    def batches(self, index: int) -> list[FaceBatch]:
        """Return one batch of each source, in the order of their names in `sources`."""
        return [source.batch(index, self.sizes[name]) for name, source in self.sources.items()]


def batch_sizes(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Return the number of images of each source; their sum is `total`.

    Sources of share 0 are left out.

    Raises:
        ValueError: a share is negative, all are zero, or a source would get no image.
    """
    if any(not share >= 0 for share in shares.values()) or not any(shares.values()):
        raise ValueError(
            f"Got the shares {dict(shares)}; they must be 0 or more, and not all of them 0."
        )
    wanted = {name: share for name, share in shares.items() if share > 0}
    scale = total / sum(wanted.values())
    exact = {name: share * scale for name, share in wanted.items()}
    sizes = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: sizes[name] - exact[name])
    for name in by_remainder[: total - sum(sizes.values())]:
        sizes[name] += 1
    if empty := [name for name, size in sizes.items() if size == 0]:
        raise ValueError(
            f"A batch of {total} leaves nothing for {', '.join(empty)}. Enlarge batch_size, or "
            "set the share to 0."
        )
    return sizes


def mixed_batches(
    mixture: Mixture, *, start: int, stride: int = 1, workers: int = 0, ahead: int = 2
) -> Iterator[list[FaceBatch]]:
    """Yield batches forever: those of index `start`, `start + stride` and so on.

    Args:
        mixture: what to mix.
        start: first index.
        stride: step between indices: the number of training processes.
        workers: processes that make batches in advance, each with one thread; 0 makes each batch
            in this process when it is needed. The batches are the same. Sources with a `device`
            other than "cpu" always work in this process.
        ahead: number of batches that each worker makes in advance.
    """
    elsewhere = {
        name: source
        for name, source in mixture.sources.items()
        if workers > 0 and getattr(source, "device", "cpu") == "cpu"
    }
    if not elsewhere:
        for index in count(start, stride):
            yield mixture.batches(index)
        return
    loader: DataLoader[list[FaceBatch]] = DataLoader(
        _ByIndex(Mixture(elsewhere, mixture.sizes)),
        batch_size=None,
        sampler=_Endless(start, stride),
        num_workers=workers,
        prefetch_factor=ahead,
        # A fork would inherit the threads of numba and torch in an undefined state.
        multiprocessing_context="spawn",
        worker_init_fn=_start_worker,
    )
    for index, ready in zip(count(start, stride), loader, strict=False):
        waiting = iter(ready)
        yield [
            next(waiting) if name in elsewhere else source.batch(index, mixture.sizes[name])
            for name, source in mixture.sources.items()
        ]


class _ByIndex(Dataset[list[FaceBatch]]):
    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def __getitem__(self, index: int) -> list[FaceBatch]:
        return self.mixture.batches(index)


@dataclass(frozen=True)
class _Endless:
    """Indices without end."""

    start: int
    stride: int

    def __iter__(self) -> Iterator[int]:
        return count(self.start, self.stride)

    def __len__(self) -> int:
        return 2**62


def _start_worker(worker: int) -> None:
    """Run torch on one thread, leave Ctrl-C to the training process, and exit without clean-up.

    A worker that must stop may still be sending a batch in another thread. Python would end that
    thread in the middle of torch's code, which aborts the process.
    """
    import atexit
    import os
    import signal

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(os._exit, 0)


def generator_for(*key: int | str) -> torch.Generator:
    """Return a generator of random numbers for a key of numbers and names."""
    return torch.Generator().manual_seed(seed_for(*key))


def seed_for(*key: int | str) -> int:
    """Return a seed for a key of numbers and names, such as seed, source and step."""
    entropy: list[int] = []
    for part in key:
        entropy += [part & (2**64 - 1)] if isinstance(part, int) else list(part.encode())
        entropy.append(len(entropy))
    words: Any = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])
