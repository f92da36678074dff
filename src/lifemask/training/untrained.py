"""The untrained system of a recipe."""

from collections.abc import Callable, Mapping

import torch

from lifemask.data.mixture import seed_for
from lifemask.training.config import Recipe, TrainingError, Value
from lifemask.training.system import System

BuildSystem = Callable[[str, Mapping[str, Value]], System]
"""Makes an untrained system from its name and options: `lifemask.systems.registry.build_system`."""


def untrained_system(recipe: Recipe, build_system: BuildSystem) -> System:
    """Return the system of a recipe with its first weights, in every process the same.

    Args:
        recipe: its seed decides random weights.
        build_system: makes the system.

    Raises:
        TrainingError: an unknown system, or an option that it does not take.
    """
    torch.manual_seed(seed_for(recipe.seed, "first weights"))
    try:
        return build_system(recipe.system.name, recipe.system.options)
    except (TypeError, ValueError) as error:
        raise TrainingError(str(error)) from error
