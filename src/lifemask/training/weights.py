"""The result of a training: averaged weights in one file, and beside it what they were made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lifemask.io.files import write_bytes, write_json
from lifemask.systems.system import System
from lifemask.training.config import Recipe, TrainingError, recipe_document, recipe_hash


def write_weights(
    folder: Path,
    recipe: Recipe,
    step: int,
    weights: Mapping[str, Tensor],
    about_data: Mapping[str, Any],
    *,
    half: bool = False,
) -> Path:
    """Write `weights.safetensors` and `weights.json`, and return the former.

    Args:
        folder: where.
        recipe: what was trained.
        step: finished steps.
        weights: the averaged weights.
        about_data: what is known of the data: licences, counts.
        half: store floats in half the space, as float16.

    Raises:
        OutputError: a file could not be written.
    """
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous()
        for name, value in weights.items()
    }
    path = folder / "weights.safetensors"
    write_bytes(path, save(tensors))
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
        stored = load_file(path)
        own = system.state_dict()
        system.load_state_dict(
            {k: v.to(own[k].dtype) if k in own else v for k, v in stored.items()}
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"Cannot start from the weights {str(path)!r}: {error}") from error
