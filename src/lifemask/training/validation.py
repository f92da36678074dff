"""What the averaged weights do on held-out batches: losses, pictures, readings of the guards."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.training.config import GuardLimits, Phase
from lifemask.training.guards import read_guards, tripped
from lifemask.training.panels import draw_panels
from lifemask.training.passes import predict_batches
from lifemask.training.system import System

PANEL_FACES = 3
"""Faces of each source on the sheet of a validation."""


@dataclass(frozen=True)
class Validation:
    """The result of one validation."""

    total: float
    """Weighted sum of the losses, over all sources and phases."""
    raw: Mapping[str, Mapping[str, float]]
    """Mean of each loss, by source."""
    pictures: Float[Tensor, "rows panels 3 S S"]
    """One row per face; see `lifemask.training.panels`."""
    readings: Mapping[str, Mapping[str, Any]]
    """What the guards read, by source."""
    wrong: Mapping[str, str]
    """What is wrong, by guard."""


@torch.no_grad()
def validate(
    system: System,
    phases: Mapping[str, Phase],
    sources: Sequence[str],
    batches: Sequence[FaceBatch],
    limits: GuardLimits,
) -> Validation:
    """Evaluate a system, as it stands, on held-out batches.

    Args:
        system: in evaluation mode.
        phases: those that take part now.
        sources: names of the batches' sources.
        batches: one of each source.
        limits: of the guards.
    """
    raw: dict[str, dict[str, float]] = {name: {} for name in sources}
    total = 0.0
    for phase_name, phase in phases.items():
        label = phase_label(phase_name, system)
        for source, values in zip(sources, system.losses(phase_name, batches), strict=True):
            for name, value in values.items():
                raw[source][label + name] = float(value.mean())
                total += phase.weights[name] * float(value.mean())
    pictures: list[Tensor] = []
    readings: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for source, batch, faces in zip(
        sources, batches, predict_batches(system, batches), strict=True
    ):
        reading = read_guards(faces, system.model, limits)
        readings[source] = asdict(reading)
        wrong |= tripped(reading, limits)
        panels = draw_panels(system.model, batch.photo[:PANEL_FACES], faces[:PANEL_FACES])
        pictures.append(panels.flatten(0, -5))
    return Validation(total, raw, torch.cat(pictures), readings, wrong)


def phase_label(phase: str, system: System) -> str:
    """Return what stands before a phase's losses in logs: nothing where there is one phase."""
    return "" if len(system.phases) == 1 else f"{phase}/"
