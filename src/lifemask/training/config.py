"""What to train, on what and for how long: plain values that import nothing heavy."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lifemask.data.augmentation_config import Augmentation

Value = bool | int | float | str | None
"""What an option of a system or a generator can be."""

Tier = Literal["open", "research"]
"""Licence of photos: open ones may train weights that ship, research ones may not."""


_WORDS = {"description", "smoke"}
"""Fields of a recipe that change nothing about its outcome."""


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class SystemChoice:
    """Which system to train."""

    name: str
    """Name of the system."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """What its builder takes."""


@dataclass(frozen=True)
class SyntheticSource:
    """Faces that never existed, drawn while training."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """What the generator's configuration takes."""
    stores: tuple[str, ...] = ()
    """Stored fits under the data folder whose blurred surroundings stand behind some of the faces;
    without any, all backgrounds are made up."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations on top of the generator's own frames, cameras and degradations."""
    repeats: int = 1
    """Variations of each face in a batch of training; validations look at one."""


@dataclass(frozen=True)
class SyntheticClipSource:
    """Drawn people in several frames: one identity and skin, other expressions, poses and lights."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    frames: int = 4
    """Frames of each clip."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """What the generator's configuration takes."""
    stores: tuple[str, ...] = ()
    """Stored fits under the data folder whose blurred surroundings stand behind some of the faces;
    without any, all backgrounds are made up."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations on top of the generator's own frames, cameras and degradations."""


@dataclass(frozen=True)
class RerenderedSource:
    """Fitted photos rendered again at other poses and under other light."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    stores: tuple[str, ...] = ("fits/open-*.tar",)
    """Stored fits under the data folder, as `tools/fit_photos.py` writes them."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """What the configuration of synthetic faces takes: cameras, lights and degradations are theirs."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations on top of its own frames, cameras and degradations."""
    repeats: int = 1
    """Variations of each face in a batch of training; validations look at one."""


@dataclass(frozen=True)
class PhotoSource:
    """Photos of which only what perception finds is known."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    shards: tuple[str, ...] = ("train/open-*.tar",)
    """Tar files under the data folder; `*` and `?` stand for any letters."""
    tiers: tuple[Tier, ...] = ("open",)
    """Photos of other licences in these shards stop the program."""
    limit: int | None = None
    """Use only so many photos, the first of the shards; for trials."""
    held_out: float = 0.05
    """Share of people (of photos, where people are unknown) kept for validation."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Variations of the crops."""


@dataclass(frozen=True)
class ClipSource:
    """Frames of the same person from videos."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    videos: tuple[str, ...] = ("videos/*",)
    """Files under the data folder, each with a `.json` card beside it; `*` and `?` stand for any
    letters."""
    tiers: tuple[Tier, ...] = ("open",)
    """Clips of other licences stop the program."""
    frames: int = 4
    """Frames of each clip."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Variations of the crops."""


Source = SyntheticSource | SyntheticClipSource | RerenderedSource | PhotoSource | ClipSource


@dataclass(frozen=True)
class Optimiser:
    """AdamW with gradient clipping and averaged weights."""

    learning_rate: float = 3e-4
    """The largest of the schedule."""
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict[str, float])
    """Factors for parameters whose names start so; the longest matching start counts."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of the mean gradient and of its square."""
    weight_decay: float = 1e-4
    """On matrices and kernels only."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    average: float = 0.999
    """Part of the averaged weights that each step keeps; early steps keep less."""


@dataclass(frozen=True)
class Phase:
    """A part of every step: some losses change some parameters by an optimiser of their own.

    The phases of a step follow each other in their order. Most systems have one, `main`; a critic
    that learns from what the network predicts is a second one.
    """

    weights: Mapping[str, float]
    """Factor of each loss; 0 switches one off. A phase computes exactly these losses."""
    learns: tuple[str, ...] = ()
    """Starts of the names of the parameters that learn; none: all."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    """How they change."""
    start: float = 0.0
    """Share of the training from which the phase takes part."""
    end: float = 1.0
    """Share of the training up to which it takes part."""

    def changes(self, parameter: str) -> bool:
        """Return whether the parameter of this name learns."""
        return not self.learns or parameter.startswith(self.learns)


MAIN = "main"
"""Name of the phase of systems that have only one."""


@dataclass(frozen=True)
class Schedule:
    """How long to train: steps, minutes, or whichever of the two ends first."""

    steps: int | None = 100_000
    """Number of steps; None: only the minutes count."""
    minutes: float | None = None
    """Time to train, also over resumed runs; None: only the steps count."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises from zero."""
    final_factor: float = 0.02
    """Learning rate at the end relative to the largest; the way there is a cosine."""


@dataclass(frozen=True)
class GuardLimits:
    """When training counts as collapsed (light constant, displacement or albedo run away)."""

    from_progress: float = 0.25
    """Part of the training after which guards watch: untrained systems shine no light."""
    patience: int = 3
    """Validations in a row that must trip the same guard before training stops."""
    shading_spread: float = 0.01
    """Least standard deviation of the shading over skin."""
    displacement_metres: float = 0.002
    """Largest displacement that a system may predict, on either side of the surface."""
    displacement_level: float = 0.9
    """Part of that from which a texel counts as saturated."""
    displacement_share: float = 0.05
    """Largest share of saturated texels among those that the displacement covers."""
    albedo_drift: float = 0.15
    """Largest difference between the mean albedo and its prior's mean."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the outcome of a training."""

    name: str
    """Name in the registry of recipes."""
    description: str
    """One sentence for people; does not change the recipe's hash."""
    system: SystemChoice
    """What is trained."""
    sources: Mapping[str, Source]
    """Where faces come from, by a name for the log."""
    phases: Mapping[str, Phase]
    """What learns from which losses in each step, in this order; the names are the system's."""
    batch_size: int = 64
    """Images (or clips) per step and process, all sources together."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the networks on CUDA; all else is in float32, and so are networks on a CPU."""
    schedule: Schedule = field(default_factory=Schedule)
    """For how long, and how fast."""
    guards: GuardLimits = field(default_factory=GuardLimits)
    """When to give up."""
    validation_images: int = 24
    """Images (or clips) of each source that validations look at, always the same."""
    seed: int = 0
    """Of everything drawn at random."""
    start_from: str | None = None
    """A file of weights to start from, as a training writes it at its end."""
    smoke: tuple[str, ...] = ()
    """Changes that make the recipe small for `--smoke`; they do not change the recipe's hash."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a recipe here; changes nothing about the outcome."""

    output: Path
    """Folder for checkpoints, logs, panels and the final weights."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int | None = None
    """Processes that make batches, per training process; 0: none. Default: three quarters of the
    cores, on a machine with a GPU all but two."""
    threads: int | None = None
    """Threads of the training process on a CPU; default: the cores that the workers leave."""
    resume: bool = False
    """Go on from the newest checkpoint in the output folder."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints."""
    keep: int = 3
    """How many checkpoints to keep."""
    log_steps: int = 20
    """Steps between lines of the log."""
    validation_minutes: float = 5.0
    """Time between validations; one more comes at the end."""
    validation_steps: int | None = None
    """Steps between validations, instead of the time."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, instead of the time."""
    stop_at: int | None = None
    """Stop as if interrupted after this step; the schedule goes on as if there were more."""
    stop_minutes: float | None = None
    """Stop so after this time of this run, on a machine that is only lent."""


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain JSON values; sources name their kind."""
    document = dataclasses.asdict(recipe)
    for name, source in recipe.sources.items():
        document["sources"][name]["kind"] = type(source).__name__
    return json.loads(json.dumps(document))


def recipe_hash(recipe: Recipe) -> str:
    """Return sixteen hexadecimal digits that differ for recipes with different outcomes."""
    document = recipe_document(recipe)
    for key in _WORDS:
        del document[key]
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return one line per value in which two recipe documents differ: `path: ours, not theirs`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({*ours, *theirs} - (set() if path else _WORDS))
        return [
            line
            for key in keys
            for line in differences(
                ours.get(key, "nothing"), theirs.get(key, "nothing"), f"{path}.{key}".lstrip(".")
            )
        ]
    return [] if ours == theirs else [f"{path}: {ours!r}, there {theirs!r}"]
