"""The training loop: mixed batches through a system, weights applied once, nothing lost on the way.

Random numbers are functions of (seed, process, step) and batches of (seed, step), so a training
that was killed and resumed gives the same weights as one that was not.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import Mixture, mixed_batches, seed_for
from lifemask.geometry.tensors import map_tensors
from lifemask.io.files import OutputError
from lifemask.morphable.model import MorphableModel
from lifemask.systems.system import System
from lifemask.training.checkpoints import (
    Checkpoint,
    checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from lifemask.training.config import (
    Recipe,
    RunOptions,
    TrainingError,
    recipe_document,
    recipe_hash,
)
from lifemask.training.distributed import Processes, processes
from lifemask.training.failures import save_batches
from lifemask.training.guards import read_guards, tripped
from lifemask.training.journal import Journal
from lifemask.training.optimisation import (
    load_optimiser,
    make_optimiser,
    move_average,
    optimiser_tensors,
)
from lifemask.training.schedules import average_factor, learning_rate_factor, progress
from lifemask.training.steps import StepValues, check_weights, estimate_batches, total_loss
from lifemask.training.weights import write_weights

logger = logging.getLogger(__name__)

Reason = Literal["finished", "interrupted", "terminated", "stopped"]

PANEL_FACES = 3
"""Faces of each source on a validation's sheet."""


@dataclass(frozen=True)
class TrainingParts:
    """What a recipe names, built."""

    system: System
    """What learns."""
    mixture: Mixture
    """What it learns from."""
    held_out: Mixture
    """What validations look at: its batch of index 0."""
    head: MorphableModel | None = None
    """The head that the guards pose; None switches them off."""
    about_data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the log and the weights' file say of the data: counts, licences, photos left out."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    reason: Reason
    """`interrupted` by Ctrl-C, `terminated` by a signal, `stopped` at the step asked for."""
    step: int
    """Finished steps."""
    seconds: float
    """Spent on training, over all runs."""


def train(
    recipe: Recipe,
    parts: TrainingParts,
    options: RunOptions,
    *,
    after_checkpoint: Callable[[Path], None] | None = None,
) -> Outcome:
    """Train a system to the end of its schedule, or until Ctrl-C or a termination signal.

    Writes checkpoints, `log.jsonl`, `panels/` and at the end `weights.safetensors` into the output
    folder. Started by `torchrun`, all processes train together; the first one writes.

    Args:
        recipe: what decides the outcome.
        parts: what it names, built.
        options: how to run it here.
        after_checkpoint: called with the folder of each finished checkpoint.

    Raises:
        TrainingError: weights or schedule do not fit, the checkpoint is of another recipe, a loss
            is not finite (its batch is saved first), the training has collapsed.
        OutputError: the last checkpoint or the weights cannot be written.
    """
    check_weights(recipe, parts.system)
    if recipe.schedule.steps is None and recipe.schedule.minutes is None:
        raise TrainingError("The schedule has no end: set schedule.steps or schedule.minutes.")
    with processes(options.device) as team, _stop_requests() as requests:
        training = _Training(recipe, parts, options, team, after_checkpoint)
        try:
            return training.run(requests)
        finally:
            training.close()


@dataclass
class _Requests:
    """Signals that came while training."""

    received: int = 0


@dataclass
class _Interval:
    """What is summed between two lines of the log."""

    steps: int = 0
    images: int = 0
    raw: dict[str, float] = field(default_factory=dict[str, float])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    total: float = 0.0
    gradient_norm: float = 0.0
    times: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, name: str, value: float) -> None:
        self.raw[name] = self.raw.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def spend(self, name: str, seconds: float) -> None:
        self.times[name] = self.times.get(name, 0.0) + seconds


class _Training:
    """The state of one run."""

    def __init__(
        self,
        recipe: Recipe,
        parts: TrainingParts,
        options: RunOptions,
        team: Processes,
        after_checkpoint: Callable[[Path], None] | None,
    ) -> None:
        self.recipe, self.parts, self.options, self.team = recipe, parts, options, team
        self.after_checkpoint = after_checkpoint
        self.names = list(parts.mixture.sources)
        self.step, self.earlier_seconds = 0, 0.0
        self.trips: dict[str, int] = {}
        self.workers, threads = worker_and_thread_counts(options, team)
        if team.device.type == "cpu":
            torch.set_num_threads(threads)
        precision = _precision(recipe, team.device)
        self.system = parts.system.to(team.device)
        self.head = None if parts.head is None else parts.head.to(team.device)
        values = StepValues(self.system, precision)
        self.optimiser = make_optimiser(self.system, recipe.optimiser)
        self.scaler = torch.amp.GradScaler(
            team.device.type, enabled=precision is torch.float16
        )  # float16 gradients underflow without a factor
        self.average = {k: v.detach().clone() for k, v in self.system.state_dict().items()}
        self.resume()
        self.values = team.averaging(values)
        self.journal = Journal(options.output) if team.first else None
        self.stream: Iterator[list[FaceBatch]] = mixed_batches(
            parts.mixture,
            start=self.step * team.count + team.rank,
            stride=team.count,
            workers=self.workers,
        )
        self.saved_step = self.step if self.step else -1
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent on training so far, over all runs."""
        return self.earlier_seconds + time.monotonic() - self.started

    @property
    def folder(self) -> Any:
        return self.options.output / "checkpoints"

    def resume(self) -> None:
        found = checkpoints(self.folder)
        if not found:
            if self.options.resume:
                logger.info("No checkpoint in %s yet: starting anew.", self.folder)
            return
        if not self.options.resume:
            raise TrainingError(
                f"{self.options.output} holds a training at step {int(found[-1].name[5:])}. Add "
                "--resume to go on with it, or choose another --output."
            )
        checkpoint = read_checkpoint(found[-1], self.recipe)
        self.system.load_state_dict(dict(checkpoint.model))
        self.average = {k: v.to(self.team.device) for k, v in checkpoint.average.items()}
        load_optimiser(self.optimiser, self.system, checkpoint.optimiser)
        self.step, self.earlier_seconds = checkpoint.step, checkpoint.seconds
        self.trips = dict(checkpoint.progress.get("trips", {}))
        if scale := checkpoint.progress.get("scaler"):
            self.scaler.load_state_dict(scale)

    def run(self, requests: _Requests) -> Outcome:
        self.note(
            "start",
            recipe=recipe_document(self.recipe),
            recipe_hash=recipe_hash(self.recipe),
            processes=self.team.count,
            device=str(self.team.device),
            workers=self.workers,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            data=dict(self.parts.about_data),
        )
        logger.info(
            "%s %s on %s, from step %d, %d worker(s)",
            self.recipe.name, recipe_hash(self.recipe), self.team.device, self.step, self.workers,
        )  # fmt: skip
        reason: Reason = "finished"
        interval = _Interval()
        checkpointed = validated = logged = time.monotonic()
        done = progress(self.recipe.schedule, self.step, self.seconds / 60)
        try:
            while done < 1:
                signalled, done = self.advance(requests, done, interval)
                now, options = time.monotonic(), self.options
                if self.step % options.log_steps == 0:
                    self.log(interval, now - logged)
                    interval, logged = _Interval(), now
                if _due(self.step, options.validation_steps, options.validation_minutes, validated):
                    self.validate(done)
                    validated = time.monotonic()
                if _due(
                    self.step, options.checkpoint_steps, options.checkpoint_minutes, checkpointed
                ):
                    self.try_checkpoint()
                    checkpointed = time.monotonic()
                if signalled:
                    reason = "interrupted" if signalled == signal.SIGINT else "terminated"
                    break
                if self.is_stop():
                    reason = "stopped"
                    break
        except Exception:
            # Whatever went wrong, the weights are those of the last finished step.
            self.try_checkpoint()
            raise
        if interval.steps:
            self.log(interval, time.monotonic() - logged)
        if reason == "finished":
            self.validate(done)
        self.checkpoint()
        if reason == "finished" and self.team.first:
            write_weights(
                self.options.output, self.recipe, self.step, self.average, self.parts.about_data
            )
        self.note("end", reason=reason, seconds=self.seconds)
        return Outcome(reason, self.step, self.seconds)

    def advance(self, requests: _Requests, done: float, interval: _Interval) -> tuple[int, float]:
        """Do one step; return the signal that arrived, if any, and the progress after it."""
        clock = time.perf_counter()

        def spent(name: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            interval.spend(name, now - clock)
            clock = now

        batches = [self.moved(batch) for batch in next(self.stream)]
        spent("data")
        # Only now: a loader's start draws random numbers too.
        torch.manual_seed(seed_for(self.recipe.seed, "step", self.step, self.team.rank))
        self.system.train()
        rate = learning_rate_factor(self.recipe.schedule, self.step, done)
        for group in self.optimiser.param_groups:
            group["lr"] = group["largest"] * rate
        values = self.values(batches)
        total, means = total_loss(values, self.recipe.weights)
        finite = bool(torch.isfinite(total))
        # One exchange per step: all processes stop at the same step, whoever has the reason.
        wrong, signalled, minutes = self.team.largest(
            [float(not finite), float(requests.received), self.seconds / 60]
        )
        if wrong:
            self.fail("loss", batches, values, own=not finite)
        spent("forward")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        spent("backward")
        self.scaler.unscale_(self.optimiser)
        norm = float(
            nn.utils.clip_grad_norm_(self.system.parameters(), self.recipe.optimiser.gradient_clip)
        )
        if not self.scaler.is_enabled() and not _finite(norm):
            self.fail("gradient", batches, values, own=True)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        move_average(
            self.average,
            self.system.state_dict(),
            average_factor(self.recipe.optimiser.average, self.step),
        )
        self.step += 1
        spent("update")
        interval.steps += 1
        interval.images += sum(batch.photo.shape[:-3].numel() for batch in batches)
        interval.total += float(total.detach())
        interval.gradient_norm += norm
        for name, mean in means.items():
            interval.add(name, float(mean.detach()))
        for source, of_source in zip(self.names, values, strict=True):
            for name, value in of_source.items():
                interval.add(f"{source}/{name}", float(value.detach().mean()))
        return int(signalled), progress(self.recipe.schedule, self.step, minutes)

    def is_stop(self) -> bool:
        """Whether the step or the time to stop at has come, for all processes alike."""
        at, minutes = self.options.stop_at, self.options.stop_minutes
        if at is not None and self.step >= at:
            return True
        if minutes is None:
            return False
        spent = (time.monotonic() - self.started) / 60
        return self.team.largest([spent])[0] >= minutes

    def moved(self, batch: FaceBatch) -> FaceBatch:
        if self.team.device.type == "cpu":
            return batch
        return map_tensors(lambda t: t.to(self.team.device, non_blocking=True), batch)

    def fail(
        self,
        what: str,
        batches: Sequence[FaceBatch],
        values: Sequence[Mapping[str, Tensor]],
        *,
        own: bool,
    ) -> None:
        """Save the batch if the fault lies in it, and raise."""
        if not own:
            raise TrainingError(
                f"The {what} of step {self.step} is not finite in another process; see its message."
            )
        where = [
            f"{source}/{name} image {int(index)}"
            for source, of_source in zip(self.names, values, strict=True)
            for name, value in of_source.items()
            for index in torch.nonzero(~torch.isfinite(value.detach())).flatten()
        ]
        path = (
            self.options.output / "failures" / f"step-{self.step:08d}-{self.team.rank}.safetensors"
        )
        about = {"recipe_hash": recipe_hash(self.recipe), "step": self.step, "where": where}
        try:
            save_batches(path, self.names, batches, about)
            kept = f"Its batch is in {path}."
        except OutputError as error:
            kept = f"Its batch could not be kept. {error}"
        raise TrainingError(
            f"The {what} of step {self.step} is not finite"
            f"{' (' + ', '.join(where[:5]) + ')' if where else ''}. {kept} The weights before that "
            "step are in the newest checkpoint. Repair the loss or the data, or lower "
            "optimiser.learning_rate."
        )

    def log(self, interval: _Interval, seconds: float) -> None:
        if not interval.steps:
            return
        raw = {name: value / interval.counts[name] for name, value in sorted(interval.raw.items())}
        if self.team.count > 1:
            means = self.team.mean([interval.total, float(interval.images), *raw.values()])
            interval.total, interval.images = means[0], round(means[1] * self.team.count)
            raw = dict(zip(raw, means[2:], strict=True))
        spent = sum(interval.times.values()) or 1.0
        weights = self.recipe.weights
        self.note(
            "train",
            total=interval.total / interval.steps,
            raw=raw,
            weighted={name: weights[name] * raw[name] for name in weights if name in raw},
            gradient_norm=interval.gradient_norm / interval.steps,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            images_per_second=interval.images / max(seconds, 1e-9),
            time_shares={name: value / spent for name, value in interval.times.items()},
            minutes=self.seconds / 60,
        )

    @torch.no_grad()
    def validate(self, done: float) -> None:
        """Judge the averaged weights on the held-out batches, draw them, and ask the guards."""
        if not self.team.first:
            return
        own = {name: value.clone() for name, value in self.system.state_dict().items()}
        self.system.load_state_dict(self.average)
        self.system.eval()
        try:
            self.judge(done)
        finally:
            self.system.load_state_dict(own)
            self.system.train()

    def judge(self, done: float) -> None:
        torch.manual_seed(seed_for(self.recipe.seed, "validation"))
        batches = [self.moved(batch) for batch in self.parts.held_out.batches(0)]
        estimates = estimate_batches(self.system, batches)
        raw: dict[str, dict[str, float]] = {}
        pictures: list[Tensor] = []
        wrong: dict[str, str] = {}
        readings: dict[str, Any] = {}
        for name, batch, estimate in zip(
            self.parts.held_out.sources, batches, estimates, strict=True
        ):
            values = self.system.losses(batch, estimate)
            raw[name] = {loss: float(value.mean()) for loss, value in values.items()}
            few = map_tensors(lambda t: t[:PANEL_FACES], batch)
            pictures.append(self.system.draw(few, estimate[:PANEL_FACES]).flatten(0, -5))
            if self.head is not None:
                reading = read_guards(estimate, self.head)
                readings[name] = asdict(reading)
                wrong |= tripped(reading, self.recipe.guards)
        total = sum(
            self.recipe.weights[loss] * value
            for of_source in raw.values()
            for loss, value in of_source.items()
        )
        self.note("validation", total=total, raw=raw, guards=readings)
        if self.journal is not None:
            self.journal.picture(self.step, "validation", torch.cat(pictures))
        logger.info("Step %d: held-out total %.4g", self.step, total)
        self.guard(wrong, done)

    def guard(self, wrong: Mapping[str, str], done: float) -> None:
        """Count validations in a row that tripped a guard, and raise when there are too many."""
        if done < self.recipe.guards.from_progress:
            return
        self.trips = {name: self.trips.get(name, 0) + 1 for name in wrong}
        for name, count in self.trips.items():
            logger.warning("Step %d, guard %s: %s.", self.step, name, wrong[name])
            if count >= self.recipe.guards.patience:
                raise TrainingError(
                    f"Training has collapsed at step {self.step}: {wrong[name]}. See "
                    f"{self.options.output / 'panels'}."
                )

    def checkpoint(self) -> None:
        if not self.team.first or self.saved_step == self.step:
            return
        checkpoint = Checkpoint(
            step=self.step,
            seconds=self.seconds,
            model=self.system.state_dict(),
            average=self.average,
            optimiser=optimiser_tensors(self.optimiser, self.system),
            progress={"trips": self.trips, "scaler": self.scaler.state_dict()},
        )
        path = write_checkpoint(self.folder, self.recipe, checkpoint, keep=self.options.keep)
        self.saved_step = self.step
        self.note("checkpoint", path=str(path))
        if self.after_checkpoint is not None:
            self.after_checkpoint(path)

    def try_checkpoint(self) -> None:
        """Write a checkpoint; where that fails, say so and go on: the next may succeed."""
        try:
            self.checkpoint()
        except OutputError as error:
            logger.warning(
                "No checkpoint at step %d: %s Training goes on; older checkpoints are untouched.",
                self.step, error,
            )  # fmt: skip

    def note(self, kind: str, **values: Any) -> None:
        if self.journal is not None:
            self.journal.write(kind, self.step, **values)

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()


def worker_and_thread_counts(options: RunOptions, team: Processes) -> tuple[int, int]:
    """Return how many processes make batches, and on how many threads a CPU trains.

    The cores are shared among the training processes of this machine. On a CPU three quarters of a
    process's cores make batches: a synthetic face costs more than twice as much as learning from it.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", team.count))
    cores = max(1, (available or 1) // here)
    if options.workers is not None:
        workers = options.workers
    elif team.device.type == "cpu":
        workers = -(-3 * cores // 4)
    else:
        workers = max(1, cores - 2)
    threads = max(1, cores - workers) if options.threads is None else options.threads
    return workers, threads


def _precision(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    if device.type != "cuda" or recipe.precision == "float32":
        return None
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}[recipe.precision]


def _due(step: int, steps: int | None, minutes: float, last: float) -> bool:
    if steps is not None:
        return step % steps == 0
    return time.monotonic() - last >= minutes * 60


def _finite(value: float) -> bool:
    return value - value == 0


@contextlib.contextmanager
def _stop_requests() -> Generator[_Requests]:
    """Turn Ctrl-C and SIGTERM into a request to stop after the step; a second one acts at once."""
    requests = _Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def note(number: int, frame: FrameType | None) -> None:
        if requests.received:
            raise KeyboardInterrupt
        requests.received = number
        logger.warning("Stopping after this step; a checkpoint is written. Again: stop at once.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
