"""One step's arithmetic: batches through a system in one pass, weights applied once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.systems.system import System
from lifemask.training.config import Recipe, TrainingError


def check_weights(recipe: Recipe, system: System) -> None:
    """Raise unless the recipe has a weight for every loss of the system, and no other.

    Raises:
        TrainingError: says which are unknown or missing.
    """
    known = set(system.loss_names)
    if unknown := sorted(set(recipe.weights) - known):
        raise TrainingError(
            f"The recipe weighs {', '.join(unknown)}, which {system.name} does not compute. "
            f"Its losses: {', '.join(sorted(known))}."
        )
    if missing := sorted(known - set(recipe.weights)):
        raise TrainingError(
            f"The recipe has no weight for {', '.join(missing)} of {system.name}. Give each a "
            "weight; 0 switches a loss off."
        )


class StepValues(nn.Module):
    """Several batches through a system in one pass: all its losses, by name and batch."""

    def __init__(self, system: System, precision: torch.dtype | None) -> None:
        """Wrap a system; `precision` is that of its networks, losses stay in float32."""
        super().__init__()
        self.system = system
        self.precision = precision

    def forward(self, batches: Sequence[FaceBatch]) -> list[dict[str, Tensor]]:
        """Return for each batch one value per image of each loss."""
        estimates = estimate_batches(self.system, batches, self.precision)
        return [
            {name: value.flatten() for name, value in self.system.losses(batch, estimate).items()}
            for batch, estimate in zip(batches, estimates, strict=True)
        ]


def estimate_batches(
    system: System, batches: Sequence[FaceBatch], precision: torch.dtype | None = None
) -> list[ExplainedFace]:
    """Return the estimates of several batches, made in one pass.

    One pass, so that normalisation layers see the mixture and not one kind of picture at a time.
    """
    shapes = [batch.photo.shape[:-3] for batch in batches]
    photos = torch.cat([batch.photo.flatten(0, -4) for batch in batches])
    with torch.autocast(photos.device.type, precision, enabled=precision is not None):
        together = system(photos)
    estimates: list[ExplainedFace] = []
    start = 0
    for shape in shapes:
        part = slice(start, start + shape.numel())
        start = part.stop
        estimates.append(
            map_tensors(
                lambda t, part=part, shape=shape: t[part].float().unflatten(0, shape), together
            )
        )
    return estimates


def total_loss(
    values: Sequence[Mapping[str, Tensor]], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of weighted means, and the unweighted mean of each loss over its images.

    Args:
        values: for each batch one value per image of each loss.
        weights: by name; this is the only place where they are applied.
    """
    names = sorted({name for batch in values for name in batch})
    means = {name: torch.cat([b[name] for b in values if name in b]).mean() for name in names}
    if unknown := sorted(set(means) - set(weights)):
        raise TrainingError(
            f"The system returned {', '.join(unknown)}, which its loss_names do not list."
        )
    wanted = [weights[name] * mean for name, mean in means.items() if weights[name] != 0]
    if not wanted:
        raise TrainingError("No loss with a weight above 0 applies to these batches.")
    return torch.stack(wanted).sum(), means
