"""What to evaluate, on which data, and where to write the results; imports nothing large."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Quality = Literal["fast", "full"]

FORMER_NAMES = {"steadiness": "jitter"}
"""The present name of a benchmark by its former name."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How to run the benchmarks."""

    systems: tuple[str, ...] = (
        *("fit", "dense_landmarks", "direct_regression_fit", "direct_regression", "plain_fit"),
        *("3ddfa_v2", "landmarks", "mean_face"),
    )
    """Systems to evaluate: names, or folders of predictions that any program wrote as `.npz`.
    `fit` is what `lifemask reconstruct` does."""

    data: Path | None = None
    """Folder that holds `dev/`, or for aflw2000 the folder of that data set; default: the environment
    variable LIFEMASK_DATA."""

    fast: bool = False
    """Use the coarse fit in all benchmarks; default: each benchmark's own quality."""

    all: bool = False
    """Evaluate all development photos, not 60 drawn by seed."""

    workers: int = 1
    """Processes that predict at the same time, each with one thread."""

    seed: int = 0
    """Seed of all random draws: photos, perturbations, bootstrap samples."""

    output: Path | None = None
    """Folder for one Markdown and one JSON file per benchmark."""

    write_photos: Path | None = None
    """Only write the photos that `synthetic` or `synthetic_detail` draws into this folder, for other
    programs."""

    cache: Path | None = None
    """Folder of finished predictions; default: LIFEMASK_CACHE, else ~/.cache/lifemask."""

    limit: int | None = None
    """Use at most this many photos of each set, drawn by seed, for a quick test; figures differ."""

    def label(self, system: str) -> str:
        """Return the name of a system's row; for a folder, its name without its parents.

        For a system with a file of weights, the name contains the file and its folder.
        """
        name, equals, weights = system.partition("=")
        if equals:
            return f"{name} ({Path(weights).parent.name}/{Path(weights).name})"
        return Path(system).name


class EvaluationError(Exception):
    """An evaluation cannot continue; the message says what was found, what is allowed, what to do."""
