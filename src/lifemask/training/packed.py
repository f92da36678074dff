"""Training on a borrowed machine: its results are small files, enough to go on elsewhere.

`tools/pack_training.py` makes the folder; its `run.py` calls `main`. The results lie in one folder:
the averaged weights as float16, and the newest checkpoint as a tar cut into parts.
"""

import argparse
import hashlib
import io
import json
import logging
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifemask.io.files import make_folder, write_bytes, write_json
from lifemask.training.builders import BuildSystem, build_parts
from lifemask.training.config import Recipe, RunOptions, TrainingError
from lifemask.training.loop import train
from lifemask.training.overrides import with_overrides

PART_BYTES = 15_000_000
"""Largest file that comes back."""

_LIST = "state.json"


FindRecipe = Callable[[str], Recipe]
"""Returns a recipe by name: `lifemask.systems.registry.find_recipe`."""


def main(
    folder: Path,
    find_recipe: FindRecipe,
    build_system: BuildSystem,
    arguments: Sequence[str] | None = None,
) -> int:
    """Train the recipe of a packed folder, and return the exit code.

    Args:
        folder: what `tools/pack_training.py` made.
        find_recipe: returns a recipe by name.
        build_system: makes an untrained system by name.
        arguments: of the command line; `--help` explains them.
    """
    parser = argparse.ArgumentParser(prog="run.py", description=f"Train what lies in {folder}.")
    parser.add_argument("--output", type=Path, default=folder / "output", help="working folder")
    parser.add_argument("--back", type=Path, default=folder / "back", help="what to bring back")
    parser.add_argument("--resume", type=Path, help="go on from such a folder")
    parser.add_argument("--minutes", type=float, help="stop after so many, with a checkpoint")
    parser.add_argument("--checkpoint-minutes", type=float, default=3.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--stop-at", type=int, help="stop after this step")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        return _train(folder, find_recipe, build_system, options)
    except (TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def job_recipe(job: Mapping[str, Any], find_recipe: FindRecipe) -> Recipe:
    """Return the recipe that a packed folder's `job.json` names, with its changes.

    Raises:
        TrainingError: an unknown name or a wrong change.
    """
    recipe = with_overrides(find_recipe(job["recipe"]), job["changes"])
    if job["minutes"] is not None:
        schedule = replace(recipe.schedule, minutes=job["minutes"], steps=None)
        recipe = replace(recipe, schedule=schedule)
    return recipe


def bring_back(checkpoint: Path, recipe: Recipe, folder: Path) -> None:
    """Write a checkpoint in parts, and its averaged weights as float16, into a folder.

    Raises:
        OutputError: it could not be written.
    """
    from safetensors.torch import load_file

    from lifemask.networks.released import ReleasedWeights, write_weights

    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for path in sorted(checkpoint.iterdir()):
            archive.add(path, path.name)
    data = whole.getvalue()
    make_folder(folder)
    pieces = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    names = [f"{checkpoint.name}-{number:03}.part" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        write_bytes(folder / name, piece)
    sums = [hashlib.sha256(piece).hexdigest() for piece in pieces]
    write_json(
        folder / _LIST,
        {"checkpoint": checkpoint.name, "parts": dict(zip(names, sums, strict=True))},
    )
    average = load_file(checkpoint / "average.safetensors")
    frozen = json.loads((checkpoint / "state.json").read_text("utf-8"))["frozen"]
    released = ReleasedWeights(recipe.system.name, recipe.system.options, average, frozen)
    write_weights(folder / "weights.safetensors", released)
    for old in folder.glob("step-*.part"):
        if old.name not in names:
            old.unlink()


def put_back(folder: Path, checkpoints: Path) -> Path:
    """Make a checkpoint again from the parts that came back, and return it.

    Raises:
        TrainingError: a part is missing or damaged.
    """
    try:
        listed = json.loads((folder / _LIST).read_text("utf-8"))
        data = b""
        for name, expected in listed["parts"].items():
            piece = (folder / name).read_bytes()
            if hashlib.sha256(piece).hexdigest() != expected:
                raise TrainingError(f"{folder / name} is damaged. Copy it again.")
            data += piece
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder} does not hold a checkpoint that came back ({error}). It needs {_LIST} and "
            "all files named in it."
        ) from error
    target = make_folder(checkpoints) / listed["checkpoint"]
    hidden = checkpoints / f".{target.name}.part"
    shutil.rmtree(hidden, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(hidden, filter="data")
    shutil.rmtree(target, ignore_errors=True)
    hidden.replace(target)
    return target


def _train(
    folder: Path, find_recipe: FindRecipe, build_system: BuildSystem, options: argparse.Namespace
) -> int:
    job: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
    recipe = job_recipe(job, find_recipe)
    run = RunOptions(
        options.output,
        device=options.device,
        workers=options.workers,
        checkpoint_minutes=options.checkpoint_minutes,
        validation_minutes=options.checkpoint_minutes,
        keep=1,
        stop_at=options.stop_at,
        stop_minutes=options.minutes,
        resume=options.resume is not None or (options.output / "checkpoints").exists(),
    )
    if options.resume is not None:
        put_back(options.resume, options.output / "checkpoints")
    parts = build_parts(
        recipe, build_system, folder / "data", workers=run.workers or 0, device=run.device
    )
    outcome = train(
        recipe, parts, run, after_checkpoint=lambda path: bring_back(path, recipe, options.back)
    )
    for name in ("log.jsonl", "weights.json"):
        if (options.output / name).exists():
            shutil.copy(options.output / name, options.back / name)
    for panel in sorted((options.output / "panels").glob("*.png"))[-2:]:
        shutil.copy(panel, options.back / panel.name)
    print(f"{outcome.reason} at step {outcome.step}; bring back {options.back}")
    return 0
