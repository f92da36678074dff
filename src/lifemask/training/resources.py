"""How the cores of a machine are shared between training and making batches."""

import os

import torch

from lifemask.training.config import Recipe, RunOptions
from lifemask.training.distributed import Processes


def worker_and_thread_counts(options: RunOptions, processes: Processes) -> tuple[int, int]:
    """Return how many processes make batches, and on how many threads a CPU trains.

    The training processes of a machine share its cores. On a CPU three quarters of the cores of a
    process make batches: to draw a face takes more than twice as long as to learn from it.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count))
    cores = max(1, (available or 1) // here)
    if options.workers is not None:
        workers = options.workers
    elif processes.device.type == "cpu":
        workers = -(-3 * cores // 4)
    else:
        workers = max(1, cores - 2)
    threads = max(1, cores - workers) if options.threads is None else options.threads
    return workers, threads


def network_precision(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the precision of networks on a device; None is float32."""
    if device.type not in ("cuda", "cpu"):
        return None
    wanted = recipe.precision if device.type == "cuda" else recipe.cpu_precision
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
