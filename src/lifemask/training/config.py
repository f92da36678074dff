"""Recipes: what to train, on what, and for how long; plain values without heavy imports."""

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
"""Licence tier of photos and clips: only `open` ones may train weights that ship."""


_WORDS = {"description", "smoke"}
"""Fields of a recipe that do not change its result."""


class TrainingError(RuntimeError):
    """Training cannot start or continue; the message says why and what to do."""


@dataclass(frozen=True)
class SystemChoice:
    """Which system to train."""

    name: str
    """Name of the system."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Arguments of its `build`."""


@dataclass(frozen=True)
class SyntheticSource:
    """Drawn faces, made during training."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Fields of the generator's `SyntheticConfig`."""
    stores: tuple[str, ...] = ()
    """Stored fits under the data folder. Their blurred surroundings are the background of some faces;
    without them, all backgrounds are generated."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations in addition to the generator's frames, cameras and degradations."""
    repeats: int = 1
    """Variations of each face in a training batch; validations use one."""


@dataclass(frozen=True)
class SyntheticClipSource:
    """Drawn people in several frames: one identity and skin, different expressions, poses and lights."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    frames: int = 4
    """Frames of each clip."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Fields of the generator's `SyntheticConfig`."""
    stores: tuple[str, ...] = ()
    """Stored fits under the data folder. Their blurred surroundings are the background of some faces;
    without them, all backgrounds are generated."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations in addition to the generator's frames, cameras and degradations."""


@dataclass(frozen=True)
class RerenderedSource:
    """Re-rendered fits: fitted photos with another pose, expression or light."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    stores: tuple[str, ...] = ("fits/open-*.tar",)
    """Stored fits under the data folder, as `tools/fit_photos.py` writes them."""
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Fields of `SyntheticConfig`: cameras, lights and degradations are the same as there."""
    augmentation: Augmentation = field(default_factory=Augmentation.patches)
    """Variations in addition to its frames, cameras and degradations."""
    repeats: int = 1
    """Variations of each face in a training batch; validations use one."""


@dataclass(frozen=True)
class PhotoSource:
    """Photos of which only the measurements of perception are known."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    shards: tuple[str, ...] = ("train/open-*.tar",)
    """Tar files under the data folder; `*` and `?` stand for any letters."""
    tiers: tuple[Tier, ...] = ("open",)
    """Photos of other tiers in these shards stop the program."""
    limit: int | None = None
    """Use only the first photos of the shards, for trials."""
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
    """Clips of other tiers stop the program."""
    frames: int = 4
    """Frames of each clip."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Variations of the crops."""


@dataclass(frozen=True)
class BankSource:
    """Faces or clips of a bank that `lifemask draw` has drawn."""

    share: float
    """Part of each batch, relative to the other sources' shares."""
    folder: str = "banks/stills"
    """Folder of the bank, under the data folder."""
    parts: tuple[int, ...] = ()
    """Numbers of the parts to use; empty: all."""
    held_out: float = 0.02
    """Share of each part kept for validation; at least one still or clip."""
    any_version: bool = False
    """Accept a bank that another version of the generator drew."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Variations; frames are moved and turned within the margin of the crops."""
    repeats: int = 1
    """Variations of each face in a training batch; validations use one."""
    encoded: str | None = None
    """Folder of this bank encoded by `lifemask encode`, under the data folder: its variations are read
    in place of new ones."""


Source = (
    SyntheticSource | SyntheticClipSource | RerenderedSource | PhotoSource | ClipSource | BankSource
)


@dataclass(frozen=True)
class Optimiser:
    """AdamW with gradient clipping and averaged weights."""

    learning_rate: float = 3e-4
    """Largest learning rate of the schedule."""
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict[str, float])
    """Factors by the start of parameter names; the longest matching start counts."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: float = 1e-4
    """On matrices and kernels only."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    average: float = 0.999
    """Share of the averaged weights that each step keeps; early steps keep less."""


@dataclass(frozen=True)
class Phase:
    """A part of every step: some losses change some parameters, with an own optimiser.

    The phases of a step run in their order. Most systems have one, `main`. A critic that learns from
    the predictions of the network needs a second one.
    """

    weights: Mapping[str, float]
    """Weight of each loss; 0 switches a loss off. A phase has exactly these losses."""
    learns: tuple[str, ...] = ()
    """Starts of the names of the parameters that learn; empty: all."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    """Optimiser of these parameters."""
    start: float = 0.0
    """Share of the training from which the phase is active."""
    end: float = 1.0
    """Share of the training up to which the phase is active."""

    def changes(self, parameter: str) -> bool:
        """Return whether the parameter of this name learns."""
        return not self.learns or parameter.startswith(self.learns)


MAIN = "main"
"""Name of the phase of systems that have only one."""


@dataclass(frozen=True)
class Schedule:
    """How long to train: steps, minutes, or both; then the first limit ends the training."""

    steps: int | None = 100_000
    """Number of steps; None: only the minutes count."""
    minutes: float | None = None
    """Time to train, over all resumed runs together; None: only the steps count."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises from zero."""
    final_factor: float = 0.02
    """Learning rate at the end relative to the largest; it falls along a cosine."""


@dataclass(frozen=True)
class GuardLimits:
    """When a training has collapsed: constant light, or runaway displacement or albedo."""

    from_progress: float = 0.25
    """Share of the training after which guards check: the light of untrained systems is constant."""
    patience: int = 3
    """Validations in a row that must trip the same guard before the training stops."""
    shading_spread: float = 0.01
    """Least standard deviation of the shading over skin."""
    displacement_metres: float = 0.002
    """Largest displacement that a system may predict, on either side of the surface."""
    displacement_level: float = 0.9
    """Share of that limit from which a texel counts as saturated."""
    displacement_share: float = 0.05
    """Largest share of saturated texels among the covered ones."""
    albedo_drift: float = 0.15
    """Largest difference between the mean albedo and its prior's mean."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training."""

    name: str
    """Name in the registry of recipes."""
    description: str
    """One sentence for readers; does not change the hash of the recipe."""
    system: SystemChoice
    """System to train."""
    sources: Mapping[str, Source]
    """Sources of faces, by their names in the log."""
    phases: Mapping[str, Phase]
    """Phases of each step, in this order, with the names that the system gives them."""
    batch_size: int = 64
    """Images (or clips) per step and process, all sources together."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the networks on CUDA; everything else is float32."""
    cpu_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the networks on a CPU. bfloat16 is faster only on processors with units for it."""
    schedule: Schedule = field(default_factory=Schedule)
    """Duration and learning rate."""
    guards: GuardLimits = field(default_factory=GuardLimits)
    """Limits that stop a collapsed training."""
    validation_images: int = 24
    """Images (or clips) of each source in validations, always the same."""
    seed: int = 0
    """Seed of all random numbers."""
    start_from: str | None = None
    """File of weights to start from, as a training writes it."""
    smoke: tuple[str, ...] = ()
    """Changes that make the recipe small for `--smoke`; they do not change its hash."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a recipe on this machine; does not change the result."""

    output: Path
    """Folder for checkpoints, logs, panels and the final weights."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int | None = None
    """Processes that make batches, per training process; 0: none. Default: three quarters of the
    cores, or all but two on a machine with a GPU."""
    threads: int | None = None
    """Threads of the training process on a CPU; default: the cores that workers do not use."""
    resume: bool = False
    """Resume from the newest checkpoint in the output folder."""
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
    """Stop after this step as if interrupted; the schedule stays that of the whole training."""
    stop_minutes: float | None = None
    """Stop in the same way after so many minutes of this run, for machines with limited time."""


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain JSON values; sources name their kind."""
    document = dataclasses.asdict(recipe)
    for name, source in recipe.sources.items():
        document["sources"][name]["kind"] = type(source).__name__
    return json.loads(json.dumps(document))


def recipe_hash(recipe: Recipe) -> str:
    """Return sixteen hexadecimal digits that differ for recipes with different results."""
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
