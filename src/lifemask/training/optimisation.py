"""AdamW over the parameters of each phase, its state as named tensors, and the moving average."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.optimizer import Optimizer

from lifemask.training.config import Phase, TrainingError


def make_optimiser(system: nn.Module, phase: Phase, trainable: Sequence[str]) -> Optimizer:
    """Return AdamW for a phase; each group's `largest` is its learning rate at the schedule's top.

    Args:
        system: what trains.
        phase: which of its parameters learn, and how.
        trainable: names of all parameters that may learn.

    Raises:
        TrainingError: a learning-rate factor is for no parameter of the phase.
    """
    settings = phase.optimiser
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used: set[str] = set()
    parameters = dict(system.named_parameters())
    names = [name for name in trainable if phase.changes(name)]
    for name in names:
        start = _longest_start(name, settings.learning_rate_factors)
        used.add(start)
        factor = settings.learning_rate_factors.get(start, 1.0)
        decay = settings.weight_decay if parameters[name].ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameters[name])
    if unused := sorted(set(settings.learning_rate_factors) - used):
        known = sorted({name.partition(".")[0] for name in names})
        raise TrainingError(
            f"optimiser.learning_rate_factors names {', '.join(unused)}, but no parameter starts "
            f"so. They start with {', '.join(known)}."
        )
    rate = settings.learning_rate
    return AdamW(
        [
            {
                "params": members,
                "lr": rate * factor,
                "largest": rate * factor,
                "weight_decay": decay,
            }
            for (factor, decay), members in groups.items()
        ],
        betas=settings.betas,
    )


def optimiser_tensors(optimisers: Mapping[str, Optimizer], system: nn.Module) -> dict[str, Tensor]:
    """Return the states of all phases' optimisers by `PHASE/PARAMETER:ENTRY`."""
    names: dict[Any, str] = {p: name for name, p in system.named_parameters()}
    return {
        f"{phase}/{names[parameter]}:{entry}": value
        for phase, optimiser in optimisers.items()
        for parameter, state in optimiser.state.items()
        for entry, value in state.items()
    }


def load_optimisers(
    optimisers: Mapping[str, Optimizer], system: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` returned.

    Raises:
        TrainingError: it is of another system.
    """
    by_phase: dict[str, dict[str, Tensor]] = {phase: {} for phase in optimisers}
    for key, value in tensors.items():
        phase, _, rest = key.partition("/")
        if phase not in by_phase:
            raise TrainingError(f"The checkpoint has a phase {phase!r}, which this system lacks.")
        by_phase[phase][rest] = value
    for phase, optimiser in optimisers.items():
        _load(optimiser, system, by_phase[phase])


def _load(optimiser: Optimizer, system: nn.Module, tensors: Mapping[str, Tensor]) -> None:
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
def move_average(
    average: Mapping[str, Tensor], now: Mapping[str, Tensor], keep: Mapping[str, float]
) -> None:
    """Move averaged weights towards the present ones, in place; integers are copied.

    Args:
        average: the weights that are averaged, by name.
        now: the present weights; those that are not averaged are passed over.
        keep: part of each average that stays.
    """
    for name, value in now.items():
        if name not in average:
            continue
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep[name])
        else:
            average[name].copy_(value)


def _longest_start(name: str, starts: Mapping[str, float]) -> str:
    return max((start for start in starts if name.startswith(start)), key=len, default="")
