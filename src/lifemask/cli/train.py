"""`lifemask train`: a recipe in; checkpoints, a log, panels and weights out."""

import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, INTERRUPTED, TERMINATED, USAGE
from lifemask.training.config import Recipe, RunOptions, TrainingError
from lifemask.training.overrides import allowed_paths, with_overrides


@dataclass(frozen=True)
class Train:
    """Train a system with a recipe.

    `lifemask train` lists the recipes; `lifemask train RECIPE --show` lists the options that you can
    change. Example: lifemask train direct_regression batch_size=16 --output runs/a
    """

    recipe: tyro.conf.Positional[str] = ""
    """Name of the recipe."""
    changes: tyro.conf.Positional[tuple[str, ...]] = ()
    """Changes of the recipe, as path=value."""
    output: Path | None = None
    """Folder for checkpoints, log, panels and weights; default: runs/RECIPE."""
    data: Path | None = None
    """Folder of photos and clips; default: the environment variable LIFEMASK_DATA."""
    minutes: float | None = None
    """Train for this time instead of the recipe's steps; the learning-rate schedule fits it."""
    resume: bool = False
    """Continue from the newest checkpoint in the output folder."""
    smoke: bool = False
    """Only check that the recipe works, in about a minute; nothing is kept."""
    show: bool = False
    """Only print the options that can be changed, with their values."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps; with torchrun each process uses its own GPU."""
    workers: int | None = None
    """Processes that make batches; default: three quarters of the cores, or all but two with a GPU."""
    threads: int | None = None
    """Threads that train on a CPU; default: the cores without workers."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints."""
    keep: int = 3
    """How many checkpoints to keep."""
    validation_minutes: float = 5.0
    """Time between validations, each with a sheet of panels."""
    log_steps: int = 20
    """Steps between lines of the log."""

    def run(self) -> int:
        """Train, check or print the recipe, and return the exit code."""
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
        if not self.recipe:
            from lifemask.systems.registry import find_recipe, recipe_names

            for name in recipe_names():
                print(f"{name}  {find_recipe(name).description}")
            return DONE
        try:
            recipe = self._recipe()
        except TrainingError as error:
            print(error, file=sys.stderr)
            return USAGE
        if self.show:
            print(*allowed_paths(recipe), sep="\n")
            return DONE
        from lifemask.data.bank.plan import BankError
        from lifemask.io.files import OutputError

        try:
            return self._prove(recipe) if self.smoke else self._train(recipe)
        except (TrainingError, OutputError, BankError) as error:
            print(error, file=sys.stderr)
            return FAILED

    def _recipe(self) -> Recipe:
        from lifemask.systems.registry import find_recipe

        recipe = with_overrides(find_recipe(self.recipe), self.changes)
        if self.minutes is not None:
            schedule = replace(recipe.schedule, minutes=self.minutes, steps=None)
            recipe = replace(recipe, schedule=schedule)
        return recipe

    def _options(self) -> RunOptions:
        return RunOptions(
            output=self.output or Path("runs") / self.recipe,
            device=self.device,
            workers=self.workers,
            threads=self.threads,
            resume=self.resume,
            checkpoint_minutes=self.checkpoint_minutes,
            keep=self.keep,
            log_steps=self.log_steps,
            validation_minutes=self.validation_minutes,
        )

    def _data(self) -> Path | None:
        named = os.environ.get("LIFEMASK_DATA")
        return self.data or (Path(named) if named else None)

    def _workers(self) -> int:
        """Return how many processes observe photos before training."""
        cores = (os.cpu_count() or 1) // int(os.environ.get("WORLD_SIZE", 1))
        return max(cores, 1) if self.workers is None else self.workers

    def _train(self, recipe: Recipe) -> int:
        from lifemask.systems.registry import build_system
        from lifemask.training.builders import build_parts
        from lifemask.training.loop import train

        options = self._options()
        parts = build_parts(
            recipe, build_system, self._data(), workers=self._workers(), device=self.device
        )
        outcome = train(recipe, parts, options)
        if os.environ.get("RANK", "0") == "0":
            minutes = outcome.seconds / 60
            print(f"{outcome.reason} at step {outcome.step} after {minutes:.1f} minutes")
            if outcome.reason == "finished":
                print(options.output / "weights.safetensors")
        return {"interrupted": INTERRUPTED, "terminated": TERMINATED}.get(outcome.reason, DONE)

    def _prove(self, recipe: Recipe) -> int:
        from lifemask.systems.registry import build_system
        from lifemask.training.builders import build_parts
        from lifemask.training.smoke import smoke

        started = time.monotonic()
        shown = smoke(
            recipe,
            lambda r: build_parts(r, build_system, self._data(), device=self.device),
            self._options(),
        )
        print(f"{recipe.name}: {'; '.join(shown)}; {time.monotonic() - started:.0f} s")
        return DONE
