"""The result of a training: averaged weights in one file, and beside it where they come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lifemask.io.files import write_json
from lifemask.networks.frozen import frozen_digests
from lifemask.networks.released import ReleasedWeights, read_weights
from lifemask.networks.released import write_weights as write_released
from lifemask.training.config import Recipe, TrainingError, recipe_document, recipe_hash
from lifemask.training.system import System


def write_weights(
    folder: Path,
    recipe: Recipe,
    step: int,
    weights: Mapping[str, Tensor],
    about_data: Mapping[str, Any],
    *,
    frozen: Mapping[str, str] | None = None,
) -> Path:
    """Write `weights.safetensors`, which `load_system` reads, and `weights.json`; return the former.

    Args:
        folder: where.
        recipe: what was trained.
        step: finished steps.
        weights: the averaged weights.
        about_data: what is known of the data: licences, counts.
        frozen: digests of the frozen modules that the system holds.

    Raises:
        OutputError: a file could not be written.
        ValueError: a weight is not finite in float16.
    """
    path = folder / "weights.safetensors"
    write_released(
        path, ReleasedWeights(recipe.system.name, recipe.system.options, weights, frozen or {})
    )
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


def start_from(system: System, path: Path) -> dict[str, Any]:
    """Load a file of weights into a system; return the licences of the data that they saw.

    What only training needs keeps its first weights.

    Args:
        system: to fill.
        path: weights with `weights.json` (of a training) or a card (of an asset) beside them.

    Returns:
        `tiers` and `stores` of all sources, as a training writes them into its own `weights.json`.

    Raises:
        TrainingError: the file is missing, damaged or of another system, or nothing beside it says
            what it was trained on.
    """
    try:
        load_weights(system, read_weights(path))
        data = _data_of(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(f"Cannot start from the weights {str(path)!r}: {error}") from error
    sources = list(data.values())
    return {
        "kind": "weights",
        "file": str(path),
        "tiers": sorted({tier for source in sources for tier in source.get("tiers", ())}),
        "stores": sorted({store for source in sources for store in source.get("stores", ())}),
    }


def _data_of(path: Path) -> Mapping[str, Any]:
    """Return what the file beside weights says of their training data.

    Raises:
        ValueError: there is no such file.
    """
    written, card = path.with_suffix(".json"), path.with_suffix(".card.json")
    if written.exists():
        return json.loads(written.read_text("utf-8"))["data"]
    if card.exists():
        return json.loads(card.read_text("utf-8"))["trained"]["data"]
    raise ValueError(
        f"{written.name} is missing beside it, which says on what they were trained. Copy both files "
        "of a training together."
    )


def load_weights(system: System, stored: ReleasedWeights) -> None:
    """Load released weights into a system, all that it needs to predict and no others.

    Raises:
        ValueError: they were trained beside other frozen weights than those that are here.
        RuntimeError: a weight is missing or unknown, or has another shape.
    """
    if stored.frozen != frozen_digests(system):
        raise ValueError(
            f"These weights of {stored.system!r} were trained beside other frozen weights "
            f"({dict(stored.frozen)}) than those that are here ({frozen_digests(system)}). Use the "
            "version of lifemask that they came with, or train anew."
        )
    own = system.state_dict()
    needed = system.released_state()
    kept = {name: value for name, value in own.items() if name not in needed}
    given = {
        present_name(type(system), name): value.float() for name, value in stored.tensors.items()
    }
    system.load_state_dict({**kept, **given})


def present_name(system: type[System], name: str) -> str:
    """Return today's name of a weight that a file may know by a former name."""
    for former, present in system.former_names.items():
        if name.startswith(former):
            return present + name.removeprefix(former)
    return name
