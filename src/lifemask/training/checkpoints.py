"""Checkpoints: a folder per step with safetensors and JSON, complete or absent, of one recipe."""

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lifemask.io.files import make_folder, write_bytes, write_json
from lifemask.training.config import (
    Recipe,
    TrainingError,
    differences,
    recipe_document,
    recipe_hash,
)

logger = logging.getLogger(__name__)

FORMAT = "lifemask-checkpoint-2"

_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to resume exactly.

    Random numbers and batches are functions of the step, so neither a generator's state nor a
    position in the data is stored.
    """

    step: int
    """Finished steps."""
    seconds: float
    """Spent on training, over all runs."""
    model: Mapping[str, Tensor]
    """The system's `state_dict`."""
    average: Mapping[str, Tensor]
    """The averaged weights that are released."""
    optimiser: Mapping[str, Tensor]
    """The states of all phases' optimisers, by `PHASE/PARAMETER:ENTRY`."""
    progress: Mapping[str, Any]
    """Small JSON values of the loop: steps of each phase, gradient scale, guards that tripped."""
    frozen: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digests of the frozen modules that the system holds, by name; they are not stored."""


def checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints of a training's folder, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found)


def write_checkpoint(folder: Path, recipe: Recipe, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint, then remove the oldest until `keep` are left.

    Raises:
        OutputError: it could not be written, for example because the disk is full; older
            checkpoints stay as they were.
    """
    make_folder(folder)
    for left_over in folder.glob(".*.part"):
        shutil.rmtree(left_over, ignore_errors=True)
    final = folder / f"step-{checkpoint.step:08d}"
    hidden = folder / f".{final.name}.{secrets.token_hex(4)}.part"
    try:
        make_folder(hidden)
        for part in ("model", "average", "optimiser"):
            tensors = {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in getattr(checkpoint, part).items()
            }
            write_bytes(hidden / f"{part}.safetensors", save(tensors))
        write_json(hidden / "state.json", _state(recipe, checkpoint))
        if final.exists():
            shutil.rmtree(final)
        os.replace(hidden, final)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    for old in checkpoints(folder)[:-keep]:
        with suppress(OSError):
            shutil.rmtree(old)
    return final


def read_checkpoint(path: Path, recipe: Recipe) -> Checkpoint:
    """Read a checkpoint of this recipe.

    Raises:
        TrainingError: it is of another recipe (says in what they differ), or damaged.
    """
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text("utf-8"))
        if state["format"] != FORMAT:
            raise TrainingError(
                f"{path} has the format {state['format']!r}; this version reads {FORMAT!r}. Go on "
                "with the version that wrote it, or start anew in another folder."
            )
        if state["recipe_hash"] != recipe_hash(recipe):
            raise TrainingError(_foreign(path, recipe, state))
        parts = {
            part: load_file(path / f"{part}.safetensors")
            for part in ("model", "average", "optimiser")
        }
        return Checkpoint(
            int(state["step"]),
            float(state["seconds"]),
            **parts,
            progress=state["progress"],
            frozen=state["frozen"],
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(
            f"The checkpoint {path} is damaged ({type(error).__name__}: {error}). Remove that "
            "folder to go on from the one before it."
        ) from error


def _state(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "recipe_hash": recipe_hash(recipe),
        "recipe": recipe_document(recipe),
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "progress": dict(checkpoint.progress),
        "frozen": dict(checkpoint.frozen),
    }


def _foreign(path: Path, recipe: Recipe, state: Mapping[str, Any]) -> str:
    lines = differences(recipe_document(recipe), state["recipe"])
    shown = "; ".join(lines[:6]) + ("; …" if len(lines) > 6 else "")
    return (
        f"{path} is a checkpoint of another recipe, {state['recipe']['name']} "
        f"{state['recipe_hash']}, not of {recipe.name} {recipe_hash(recipe)}. They differ in: "
        f"{shown or 'the version of the recipe'}. Use the same recipe and changes to go on, or "
        "another --output to start anew."
    )
