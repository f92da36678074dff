"""The result of a training: averaged weights in one file, and beside it what they were made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lifemask.io.files import write_json
from lifemask.systems.released import ReleasedWeights, read_weights
from lifemask.systems.released import write_weights as write_released
from lifemask.systems.system import System
from lifemask.training.config import Recipe, TrainingError, recipe_document, recipe_hash


def write_weights(
    folder: Path,
    recipe: Recipe,
    step: int,
    weights: Mapping[str, Tensor],
    about_data: Mapping[str, Any],
) -> Path:
    """Write `weights.safetensors`, which `load_system` reads, and `weights.json`; return the former.

    Args:
        folder: where.
        recipe: what was trained.
        step: finished steps.
        weights: the averaged weights.
        about_data: what is known of the data: licences, counts.

    Raises:
        OutputError: a file could not be written.
        ValueError: a weight is not finite in float16.
    """
    path = folder / "weights.safetensors"
    write_released(path, ReleasedWeights(recipe.system.name, recipe.system.options, weights))
    write_json(
        folder / "weights.json",
        {
            "system": recipe.system.name,
            "recipe": recipe_document(recipe),
            "recipe_hash": recipe_hash(recipe),
            "step": step,
            "torch": torch.__version__,
            "data": dict(about_data),
        },
    )
    return path


def start_from(system: System, path: Path) -> None:
    """Load a file of weights into a system, all of them and no others.

    Raises:
        TrainingError: the file is missing, damaged, or of another system.
    """
    try:
        stored = read_weights(path)
        system.load_state_dict({name: value.float() for name, value in stored.tensors.items()})
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"Cannot start from the weights {str(path)!r}: {error}") from error
