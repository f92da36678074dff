"""Training with several processes: which of them this is, and what they exchange."""

import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lifemask.training.config import TrainingError


@dataclass(frozen=True)
class Processes:
    """Which of the processes that train together runs here."""

    rank: int
    """Its number, from 0."""
    count: int
    """How many there are."""
    device: torch.device
    """Where it computes."""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process: the one that writes files."""
        return self.rank == 0

    def all_reduce_max(self, values: Sequence[float]) -> list[float]:
        """Return for each value its maximum over all processes; all of them must call."""
        if self.count == 1:
            return list(values)
        device = self.device if self.device.type == "cuda" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def all_reduce_mean(self, values: Sequence[float]) -> list[float]:
        """Return for each value the mean over all processes; all of them must call."""
        if self.count == 1:
            return list(values)
        device = self.device if self.device.type == "cuda" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.SUM)
        return (tensor / self.count).tolist()

    def averaging(self, module: nn.Module) -> nn.Module:
        """Return the module wrapped so that all processes get the mean of their gradients.

        With one process it is the module itself. `DistributedDataParallel` never releases its
        process group, so the threads of that group outlive training. It gets a group of its own:
        the threads of `all_reduce_max` and `all_reduce_mean` then end with `processes`. A thread
        that still holds a Python tensor when Python ends aborts the process.
        """
        if self.count == 1:
            return module
        # The backbone's memory format is channels-last, that of the buckets is not; no error.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            process_group=dist.new_group(),
            find_unused_parameters=True,  # a phase, or a batch without truth, leaves some out
        )


@contextmanager
def processes(device: str = "auto") -> Generator[Processes]:
    """Join the processes that `torchrun` started, or be alone; leave them at the end.

    Args:
        device: auto, cpu, cuda, cuda:1, mps. With several processes each takes its own GPU.

    Raises:
        TrainingError: the device is not there.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(rank, count, chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"There is no device {name!r}. Use auto, cpu, cuda or mps.") from error
    if device.type == "cuda":
        index = local_rank if ":" not in name else device.index
        if index >= cuda:
            raise TrainingError(
                f"Device cuda:{index} was asked for; this machine has {cuda} CUDA devices. Use "
                "--device cpu, or start fewer processes."
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not mps:
        raise TrainingError("Device mps was asked for; this machine has none. Use --device cpu.")
    if device.type not in ("cpu", "mps"):
        raise TrainingError(f"Cannot train on {name!r}. Use auto, cpu, cuda or mps.")
    return device
