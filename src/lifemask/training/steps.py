"""The losses of a phase over all batches; weights are applied once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.training.config import Phase, Recipe, TrainingError
from lifemask.training.system import System


def check_phases(recipe: Recipe, system: System) -> None:
    """Check that a recipe has the phases of the system, with a weight for each of their losses.

    Raises:
        TrainingError: names the phase, loss or parameter that is unknown or missing.
    """
    if list(recipe.phases) != list(system.phases):
        raise TrainingError(
            f"The recipe has the phases {', '.join(recipe.phases)}; {system.name} has "
            f"{', '.join(system.phases)}, in this order."
        )
    parameters = [name for name, p in system.named_parameters() if p.requires_grad]
    for name, phase in recipe.phases.items():
        _check_weights(name, phase, set(system.phases[name].weights), system.name)
        if not 0 <= phase.start < phase.end <= 1:
            raise TrainingError(
                f"Phase {name} lasts from {phase.start} to {phase.end}; allowed is 0 <= start < end "
                "<= 1, shares of the training."
            )
        for start in phase.learns:
            if not any(parameter.startswith(start) for parameter in parameters):
                raise TrainingError(
                    f"Phase {name} changes parameters that start with {start!r}, but no parameter "
                    f"starts so. {_known_starts(system)}"
                )
    phases = recipe.phases.values()
    if idle := [name for name in parameters if not any(p.changes(name) for p in phases)]:
        raise TrainingError(
            f"No phase changes {', '.join(idle[:4])}. Name it in a phase's `learns`, or freeze it."
        )


def _check_weights(name: str, phase: Phase, known: set[str], system: str) -> None:
    if unknown := sorted(set(phase.weights) - known):
        raise TrainingError(
            f"Phase {name} of the recipe weighs {', '.join(unknown)}, which {system} does not "
            f"compute in it. Its losses: {', '.join(sorted(known))}."
        )
    if missing := sorted(known - set(phase.weights)):
        raise TrainingError(
            f"Phase {name} of the recipe has no weight for {', '.join(missing)} of {system}. Give "
            "each a weight; 0 switches a loss off."
        )


def _known_starts(system: nn.Module) -> str:
    names = sorted({name.partition(".")[0] for name, _ in system.named_parameters()})
    return f"They start with {', '.join(names)}."


def is_active(phase: Phase, done: float) -> bool:
    """Return whether a phase takes part at this share of the training."""
    return phase.start <= done and (done < phase.end or phase.end == 1)


def set_learning(system: nn.Module, trainable: Sequence[str], phase: Phase) -> None:
    """Let only the parameters of a phase take gradients.

    Args:
        system: in training.
        trainable: names of all parameters that some phase may change.
        phase: its `learns` decides.
    """
    names = set(trainable)
    for name, parameter in system.named_parameters():
        if name in names:
            parameter.requires_grad_(phase.changes(name))


class PhaseLosses(nn.Module):
    """All losses of a phase of a system, for several batches."""

    def __init__(self, system: System, phases: Mapping[str, Phase]) -> None:
        super().__init__()
        self.system = system
        self.phases = phases

    def forward(self, phase: str, batches: Sequence[FaceBatch]) -> list[dict[str, Tensor]]:
        """Return for each batch one value per image (or clip) of each loss.

        A loss of weight 0 has no gradient: with several processes, each parameter behind a result
        is waited for.
        """
        weights = self.phases[phase].weights
        return [
            {
                name: value.flatten().detach() if weights.get(name) == 0 else value.flatten()
                for name, value in of_batch.items()
            }
            for of_batch in self.system.losses(phase, batches)
        ]


def total_loss(
    values: Sequence[Mapping[str, Tensor]], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of weighted means, and the unweighted mean of each loss over its images.

    Args:
        values: for each batch one value per image of each loss.
        weights: by name; they are applied here and nowhere else.
    """
    names = sorted({name for batch in values for name in batch})
    means = {name: torch.cat([b[name] for b in values if name in b]).mean() for name in names}
    if unknown := sorted(set(means) - set(weights)):
        raise TrainingError(
            f"The system returned {', '.join(unknown)}, which its phase does not list."
        )
    wanted = [weights[name] * mean for name, mean in means.items() if weights[name] != 0]
    if not wanted:
        raise TrainingError("No loss with a weight above 0 applies to these batches.")
    return torch.stack(wanted).sum(), means
