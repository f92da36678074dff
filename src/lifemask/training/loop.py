"""The training loop: mixed batches through the phases of a system, weights applied once.

Random numbers are functions of (seed, process, step) and batches of (seed, step), so a training
that was killed and resumed gives the same weights as one that was not.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import Mixture, mixed_batches, seed_for
from lifemask.geometry.tensors import map_tensors
from lifemask.io.files import OutputError
from lifemask.networks.frozen import frozen_digests
from lifemask.training.checkpoints import (
    Checkpoint,
    checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from lifemask.training.config import (
    Phase,
    Recipe,
    RunOptions,
    TrainingError,
    recipe_document,
    recipe_hash,
)
from lifemask.training.distributed import Processes, processes
from lifemask.training.failures import save_batches
from lifemask.training.logger import TrainingLogger
from lifemask.training.optimisation import (
    load_optimisers,
    make_optimiser,
    move_average,
    optimiser_tensors,
)
from lifemask.training.resources import network_precision, worker_and_thread_counts
from lifemask.training.schedules import (
    average_factor,
    learning_rate_factor,
    phase_progress,
    progress,
)
from lifemask.training.statistics import StepStatistics
from lifemask.training.steps import (
    PhaseLosses,
    check_phases,
    is_active,
    set_learning,
    total_loss,
)
from lifemask.training.stopping import StopRequests, is_due, stop_requests
from lifemask.training.system import System
from lifemask.training.validation import phase_label, validate
from lifemask.training.weights import write_weights

logger = logging.getLogger(__name__)

Reason = Literal["finished", "interrupted", "terminated", "stopped"]


@dataclass(frozen=True)
class TrainingParts:
    """What a recipe names, built."""

    system: System
    """What learns."""
    mixture: Mixture
    """What it learns from."""
    held_out: Mixture
    """What validations use: its batch of index 0."""
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
    folder. Started by `torchrun`, all processes train together; the main process writes.

    Args:
        recipe: what decides the outcome.
        parts: what it names, built.
        options: how to run it here.
        after_checkpoint: called with the folder of each finished checkpoint.

    Raises:
        TrainingError: phases or schedule do not fit, the checkpoint is of another recipe, a loss
            is not finite (its batch is saved first), the training has collapsed.
        OutputError: the last checkpoint or the weights cannot be written.
    """
    check_phases(recipe, parts.system)
    if recipe.schedule.steps is None and recipe.schedule.minutes is None:
        raise TrainingError("The schedule has no end: set schedule.steps or schedule.minutes.")
    with processes(options.device) as team, stop_requests() as requests:
        training = _Training(recipe, parts, options, team, after_checkpoint)
        try:
            return training.run(requests)
        finally:
            training.close()


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
        self.phase_steps = dict.fromkeys(recipe.phases, 0)
        self.workers, threads = worker_and_thread_counts(options, team)
        if team.device.type == "cpu":
            torch.set_num_threads(threads)
        self.system = parts.system.to(team.device)
        self.system.precision = network_precision(recipe, team.device)
        self.trainable = [n for n, p in self.system.named_parameters() if p.requires_grad]
        self.optimisers: dict[str, Optimizer] = {
            name: make_optimiser(self.system, phase, self.trainable)
            for name, phase in recipe.phases.items()
        }
        # Gradients in float16 underflow without a factor.
        self.scaler = torch.amp.GradScaler(
            team.device.type, enabled=self.system.precision is torch.float16
        )
        self.average = {k: v.detach().clone() for k, v in self.system.released_state().items()}
        self.resume()
        self.keeps = self.averaging()
        self.losses = team.averaging(PhaseLosses(self.system, recipe.phases))
        self.logger = TrainingLogger(options.output) if team.is_main else None
        self.stream: Iterator[list[FaceBatch]] = mixed_batches(
            parts.mixture,
            start=self.step * team.count + team.rank,
            stride=team.count,
            workers=self.workers,
        )
        self.buffers: dict[str, Tensor] = {}
        self.has_moved = False
        self.saved_step = self.step if self.step else -1
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent on training so far, over all runs."""
        return self.earlier_seconds + time.monotonic() - self.started

    @property
    def folder(self) -> Path:
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
        if dict(checkpoint.frozen) != frozen_digests(self.system):
            raise TrainingError(
                f"{found[-1]} was trained beside other frozen weights than those that are here now. "
                "Go on with the version that wrote it, or start anew in another folder."
            )
        self.system.load_state_dict(dict(checkpoint.model))
        self.average = {k: v.to(self.team.device) for k, v in checkpoint.average.items()}
        load_optimisers(self.optimisers, self.system, checkpoint.optimiser)
        self.step, self.earlier_seconds = checkpoint.step, checkpoint.seconds
        self.trips = dict(checkpoint.progress["trips"])
        self.phase_steps = dict(checkpoint.progress["phase_steps"])
        if scale := checkpoint.progress["scaler"]:
            self.scaler.load_state_dict(scale)

    def run(self, requests: StopRequests) -> Outcome:
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
        # All processes start with the same phases.
        (minutes,) = self.team.all_reduce_max([self.seconds / 60])
        done = progress(self.recipe.schedule, self.step, minutes)
        statistics = StepStatistics()
        logged = time.monotonic()
        try:
            reason, done, statistics, logged = self.steps(requests, done, statistics, logged)
        except Exception:
            self.restore_last_step()
            raise
        if statistics.steps:
            self.log(statistics, time.monotonic() - logged)
        if reason == "finished":
            self.validate(done)
        self.checkpoint()
        if reason == "finished" and self.team.is_main:
            write_weights(
                self.options.output,
                self.recipe,
                self.step,
                self.average,
                self.parts.about_data,
                frozen=frozen_digests(self.system),
            )
        self.note("end", reason=reason, seconds=self.seconds)
        return Outcome(reason, self.step, self.seconds)

    def steps(
        self, requests: StopRequests, done: float, statistics: StepStatistics, logged: float
    ) -> tuple[Reason, float, StepStatistics, float]:
        """Take steps until the end or a reason to stop; log, validate and checkpoint between them.

        Returns:
            The reason, the progress, what is not logged yet, and when it was logged last.
        """
        checkpointed = validated = time.monotonic()
        while done < 1:
            signalled, done = self.advance(requests, done, statistics)
            now, options = time.monotonic(), self.options
            if self.step % options.log_steps == 0:
                self.log(statistics, now - logged)
                statistics, logged = StepStatistics(), now
            if is_due(self.step, options.validation_steps, options.validation_minutes, validated):
                self.validate(done)
                validated = time.monotonic()
            if is_due(
                self.step, options.checkpoint_steps, options.checkpoint_minutes, checkpointed
            ):
                self.try_checkpoint()
                checkpointed = time.monotonic()
            if signalled:
                reason: Reason = "interrupted" if signalled == signal.SIGINT else "terminated"
                return reason, done, statistics, logged
            if self.is_stop():
                return "stopped", done, statistics, logged
        return "finished", done, statistics, logged

    def advance(
        self, requests: StopRequests, done: float, statistics: StepStatistics
    ) -> tuple[int, float]:
        """Take one step; return the signal that arrived, if any, and the progress after it."""
        clock = time.perf_counter()
        batches = [self.moved(batch) for batch in next(self.stream)]
        statistics.spend("data", time.perf_counter() - clock)
        self.buffers = self.current_buffers()
        # Only now: a loader's start draws random numbers too.
        torch.manual_seed(seed_for(self.recipe.seed, "step", self.step, self.team.rank))
        self.system.train()
        signalled, minutes = 0, self.seconds / 60
        active = self.active_phases(done)
        for name, phase in active.items():
            signalled, minutes = self.learn(name, phase, batches, requests, done, statistics)
        clock = time.perf_counter()
        self.scaler.update()
        move_average(
            self.average,
            self.system.released_state(),
            {name: average_factor(most, self.step) for name, most in self.keeps.items()},
        )
        self.step += 1
        self.buffers, self.has_moved = {}, False
        statistics.spend("update", time.perf_counter() - clock)
        statistics.steps += 1
        statistics.images += sum(batch.photo.shape[:-3].numel() for batch in batches)
        return signalled, progress(self.recipe.schedule, self.step, minutes)

    def learn(
        self,
        name: str,
        phase: Phase,
        batches: Sequence[FaceBatch],
        requests: StopRequests,
        done: float,
        statistics: StepStatistics,
    ) -> tuple[int, float]:
        """Let one phase learn from the batches; return the signal that arrived and the minutes."""
        clock = time.perf_counter()

        def spent(part: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            statistics.spend(part, now - clock)
            clock = now

        optimiser = self.optimisers[name]
        set_learning(self.system, self.trainable, phase)
        rate = learning_rate_factor(
            self.recipe.schedule, self.phase_steps[name], phase_progress(phase, done)
        )
        for group in optimiser.param_groups:
            group["lr"] = group["largest"] * rate
        values = self.losses(name, batches)
        total, means = total_loss(values, phase.weights)
        finite = bool(torch.isfinite(total))
        # One exchange: all processes stop at the same step, whichever has the reason.
        wrong, signalled, minutes = self.team.all_reduce_max(
            [float(not finite), float(requests.received), self.seconds / 60]
        )
        if wrong:
            self.fail("loss", batches, values, own=not finite)
        spent("forward")
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        spent("backward")
        self.scaler.unscale_(optimiser)
        members = [p for group in optimiser.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(members, phase.optimiser.gradient_clip))
        if not self.scaler.is_enabled() and not _finite(norm):
            self.fail("gradient", batches, values, own=True)
        self.has_moved = True
        self.scaler.step(optimiser)
        optimiser.zero_grad(set_to_none=True)
        self.phase_steps[name] += 1
        statistics.total += float(total.detach())
        statistics.gradient_norms.setdefault(name, []).append(norm)
        statistics.learning_rates[name] = optimiser.param_groups[0]["lr"]
        statistics.add_losses(phase_label(name, self.system), means, self.names, values)
        spent("update")
        return int(signalled), minutes

    def active_phases(self, done: float) -> dict[str, Phase]:
        """Return the phases that take part at this progress.

        Raises:
            TrainingError: there is none.
        """
        active = {n: phase for n, phase in self.recipe.phases.items() if is_active(phase, done)}
        if not active:
            raise TrainingError(
                f"No phase takes part at {done:.0%} of the training. Let one start earlier or end "
                "later."
            )
        return active

    def averaging(self) -> dict[str, float]:
        """Return the part of each averaged weight that a step keeps at most: its phase's.

        What several phases change, or none, follows the first of them, or of all.
        """
        phases = list(self.recipe.phases.values())
        learned = set(self.trainable)
        return {
            name: next(
                (p for p in phases if name in learned and p.changes(name)), phases[0]
            ).optimiser.average
            for name in self.average
        }

    def is_stop(self) -> bool:
        """Whether the step or the time to stop at has come, for all processes alike."""
        at, minutes = self.options.stop_at, self.options.stop_minutes
        if at is not None and self.step >= at:
            return True
        if minutes is None:
            return False
        spent = (time.monotonic() - self.started) / 60
        return self.team.all_reduce_max([spent])[0] >= minutes

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
            kept = f"Its batch could not be saved. {error}"
        raise TrainingError(
            f"The {what} of step {self.step} is not finite"
            f"{' (' + ', '.join(where[:5]) + ')' if where else ''}. {kept} Weights from before "
            "that step are in the newest checkpoint. Repair the loss or the data, or lower the phase's "
            "optimiser.learning_rate."
        )

    def log(self, statistics: StepStatistics, seconds: float) -> None:
        if not statistics.steps:
            return
        raw, total, images = statistics.means(), statistics.total, float(statistics.images)
        if self.team.count > 1:
            means = self.team.all_reduce_mean([total, images, *raw.values()])
            total, images = means[0], means[1] * self.team.count
            raw = dict(zip(raw, means[2:], strict=True))
        spent = sum(statistics.times.values()) or 1.0
        weighted = {
            label: weight * raw[label]
            for name, phase in self.recipe.phases.items()
            for loss, weight in phase.weights.items()
            if (label := phase_label(name, self.system) + loss) in raw
        }
        phases = statistics.phase_lines()
        self.note(
            "train",
            total=total / statistics.steps,
            raw=raw,
            weighted=weighted,
            **(phases if len(self.recipe.phases) > 1 else next(iter(phases.values()))),
            images_per_second=images / max(seconds, 1e-9),
            time_shares={name: value / spent for name, value in statistics.times.items()},
            minutes=self.seconds / 60,
        )

    def validate(self, done: float) -> None:
        """Evaluate the averaged weights on the held-out batches, draw them, and ask the guards."""
        if not self.team.is_main:
            return
        own = {name: value.clone() for name, value in self.system.state_dict().items()}
        self.system.load_state_dict({**own, **self.average})
        self.system.eval()
        try:
            torch.manual_seed(seed_for(self.recipe.seed, "validation"))
            found = validate(
                self.system,
                self.active_phases(done),
                list(self.parts.held_out.sources),
                [self.moved(batch) for batch in self.parts.held_out.batches(0)],
                self.recipe.guards,
            )
        finally:
            self.system.load_state_dict(own)
            self.system.train()
        self.note("validation", total=found.total, raw=found.raw, guards=found.readings)
        if self.logger is not None:
            self.logger.picture(self.step, "validation", found.pictures)
        logger.info("Step %d: held-out total %.4g", self.step, found.total)
        self.guard(found.wrong, done)

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
        if not self.team.is_main or self.saved_step == self.step:
            return
        checkpoint = Checkpoint(
            step=self.step,
            seconds=self.seconds,
            model=self.system.state_dict(),
            average=self.average,
            optimiser=optimiser_tensors(self.optimisers, self.system),
            progress={
                "trips": self.trips,
                "phase_steps": self.phase_steps,
                "scaler": self.scaler.state_dict(),
            },
            frozen=frozen_digests(self.system),
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

    def current_buffers(self) -> dict[str, Tensor]:
        """Return a copy of what a forward pass can change, such as the means of batch norms."""
        learned = dict(self.system.named_parameters())
        return {k: v.clone() for k, v in self.system.state_dict().items() if k not in learned}

    def restore_last_step(self) -> None:
        """Save the last finished step after a failed one, if no phase of that has changed weights."""
        if self.has_moved:
            logger.warning(
                "A phase of step %d had changed weights before another one failed: no checkpoint "
                "is written, and --resume goes on from the newest one.",
                self.step,
            )
            return
        self.system.load_state_dict(self.buffers, strict=False)
        self.try_checkpoint()

    def note(self, kind: str, **values: Any) -> None:
        if self.logger is not None:
            self.logger.write(kind, self.step, **values)

    def close(self) -> None:
        names = set(self.trainable)
        for name, parameter in self.system.named_parameters():
            if name in names:
                parameter.requires_grad_(True)
        if self.logger is not None:
            self.logger.close()


def _finite(value: float) -> bool:
    return value - value == 0
