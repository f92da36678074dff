"""AdamW over a system's parameters, its state as named tensors, and the moving average."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.optimizer import Optimizer

from lifemask.training.config import Optimiser, TrainingError


def make_optimiser(system: nn.Module, settings: Optimiser) -> Optimizer:
    """Return AdamW; each group's `largest` is its learning rate at the top of the schedule.

    Raises:
        TrainingError: a learning-rate factor is for no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used: set[str] = set()
    for name, parameter in system.named_parameters():
        if not parameter.requires_grad:
            continue
        start = _longest_start(name, settings.learning_rate_factors)
        used.add(start)
        factor = settings.learning_rate_factors.get(start, 1.0)
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if unused := sorted(set(settings.learning_rate_factors) - used):
        names = sorted({name.partition(".")[0] for name, _ in system.named_parameters()})
        raise TrainingError(
            f"optimiser.learning_rate_factors names {', '.join(unused)}, but no parameter starts "
            f"so. They start with {', '.join(names)}."
        )
    rate = settings.learning_rate
    return AdamW(
        [
            {
                "params": parameters,
                "lr": rate * factor,
                "largest": rate * factor,
                "weight_decay": decay,
            }
            for (factor, decay), parameters in groups.items()
        ],
        betas=settings.betas,
    )


def optimiser_tensors(optimiser: Optimizer, system: nn.Module) -> dict[str, Tensor]:
    """Return an optimiser's state by `PARAMETER:ENTRY`."""
    names: dict[Any, str] = {p: name for name, p in system.named_parameters()}
    return {
        f"{names[parameter]}:{entry}": value
        for parameter, state in optimiser.state.items()
        for entry, value in state.items()
    }


def load_optimiser(optimiser: Optimizer, system: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` returned.

    Raises:
        TrainingError: it is of another system.
    """
    parameters = dict(system.named_parameters())
    ordered = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    numbers: dict[Any, int] = {parameter: number for number, parameter in enumerate(ordered)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(":")
        if parameters.get(name) not in numbers:
            raise TrainingError(
                f"The checkpoint's optimiser knows {name!r}, which this system does not train."
            )
        state.setdefault(numbers[parameters[name]], {})[entry] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], now: Mapping[str, Tensor], keep: float) -> None:
    """Move averaged weights towards the present ones, in place; what is no float is copied."""
    for name, value in now.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)


def _longest_start(name: str, starts: Mapping[str, float]) -> str:
    return max((start for start in starts if name.startswith(start)), key=len, default="")
