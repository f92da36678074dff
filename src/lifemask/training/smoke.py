"""A recipe proved in under a minute: a few small steps, a validation, a checkpoint, a resume."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import Recipe, RunOptions, Schedule, TrainingError
from lifemask.training.loop import TrainingParts, train
from lifemask.training.overrides import with_overrides

STEPS = 4
"""Steps of the whole trial; it is interrupted in the middle once."""


def small(recipe: Recipe) -> Recipe:
    """Return the recipe with tiny batches and a few steps."""
    shrunk = with_overrides(recipe, recipe.smoke)
    return replace(
        shrunk,
        batch_size=2 * len(recipe.sources),
        sources={name: replace(source, share=1.0) for name, source in shrunk.sources.items()},
        schedule=Schedule(steps=STEPS, warmup_steps=1),
        validation_images=2,
        guards=replace(recipe.guards, from_progress=2.0),  # an untrained light is constant
    )


def smoke(
    recipe: Recipe, build: Callable[[Recipe], TrainingParts], options: RunOptions
) -> list[str]:
    """Train a small copy of a recipe, once in one go and once interrupted; return what was shown.

    Args:
        recipe: what to prove.
        build: makes the parts of a recipe.
        options: device and so on; the output folder is a temporary one.

    Raises:
        TrainingError: something does not work, or the resumed training has other weights.
    """
    trial = small(recipe)
    with tempfile.TemporaryDirectory(prefix="lifemask-smoke-") as folder:
        run = replace(
            options, workers=0, threads=options.threads or 1, resume=False, log_steps=1,
            validation_steps=None,
            checkpoint_steps=None, validation_minutes=1e9, checkpoint_minutes=1e9,
        )  # fmt: skip
        whole, parted = Path(folder, "whole"), Path(folder, "parted")
        train(trial, build(trial), replace(run, output=whole))
        train(trial, build(trial), replace(run, output=parted, stop_at=STEPS // 2))
        train(trial, build(trial), replace(run, output=parted, resume=True))
        panels = sorted((whole / "panels").iterdir())
        if not panels or not (whole / "weights.safetensors").exists():
            raise TrainingError("The trial left no panels or no weights.")
        differing = _differing(whole, parted)
        if differing:
            raise TrainingError(
                f"A resumed training differs from an uninterrupted one in {', '.join(differing)}. "
                "Something draws random numbers outside of the step, or keeps a state."
            )
        size = sum(f.stat().st_size for f in checkpoints(whole / "checkpoints")[-1].iterdir())
    return [
        f"{STEPS} steps with {', '.join(trial.sources)}",
        "a validation with panels",
        f"a checkpoint of {size / 1e6:.1f} MB",
        "a resume that changes nothing",
    ]


def _differing(whole: Path, parted: Path) -> list[str]:
    one, other = (checkpoints(folder / "checkpoints")[-1] for folder in (whole, parted))
    found: list[str] = []
    for part in ("model", "average", "optimiser"):
        ours, theirs = (load_file(path / f"{part}.safetensors") for path in (one, other))
        found += [k for k, v in ours.items() if k not in theirs or not torch.equal(v, theirs[k])]
    return found[:5]
