"""What to evaluate, on which data, and where the results go; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Quality = Literal["fast", "full"]

FORMER_NAMES = {"steadiness": "jitter"}
"""Names that benchmarks had before, and those that they have now."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How to run the benchmarks."""

    systems: tuple[str, ...] = (
        *("direct_regression_fit", "fit", "direct_regression"),
        *("3ddfa_v2", "landmarks", "mean_face"),
    )
    """Systems to evaluate: names, or folders of predictions written as `.npz` by any program.
    `direct_regression_fit` is what `lifemask reconstruct` does."""

    data: Path | None = None
    """Folder that holds `dev/`; default: the environment variable LIFEMASK_DATA."""

    fast: bool = False
    """Use the coarse fit everywhere; otherwise each benchmark's own quality."""

    all: bool = False
    """Evaluate all dev photos, not 60 drawn by seed."""

    workers: int = 1
    """Processes that predict at the same time, each with one thread."""

    seed: int = 0
    """Seed of everything drawn: photos, perturbations, bootstrap samples."""

    output: Path | None = None
    """Folder for one Markdown and one JSON file per benchmark."""

    write_photos: Path | None = None
    """Evaluate nothing: write the photos that `synthetic` draws into this folder, for other programs."""

    cache: Path | None = None
    """Folder of finished predictions; default: LIFEMASK_CACHE, else ~/.cache/lifemask."""

    limit: int | None = None
    """Use at most this many photos of each set, drawn by seed: for a quick test; the figures differ."""

    def label(self, system: str) -> str:
        """Return the name of a system's row: a folder's own name without its parents.

        A system with its own weights is named with their file and its folder.
        """
        name, equals, weights = system.partition("=")
        if equals:
            return f"{name} ({Path(weights).parent.name}/{Path(weights).name})"
        return Path(system).name


class EvaluationError(Exception):
    """An evaluation cannot go on; the message says what came, what is allowed, what to do next."""
