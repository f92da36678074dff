"""`lifemask evaluate`: compare systems with ground truth, in one table per benchmark."""

import sys
from dataclasses import dataclass, field

import tyro

from lifemask.cli.exit_codes import DONE, FAILED
from lifemask.evaluation.config import FORMER_NAMES, EvaluationConfig, EvaluationError


@dataclass(frozen=True)
class Evaluate:
    """Compare reconstructions with ground truth; needs the development data."""

    benchmark: tyro.conf.Positional[str] = "all"
    """Name of a benchmark: aflw21, gross, synthetic, synthetic_detail, yaleb, photos, jitter,
    robustness, speed, or all of these; or aflw2000, which needs `--data` with the folder of
    AFLW2000-3D."""
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How to run the benchmarks."""
    json: bool = False
    """Print each report as JSON."""

    def run(self) -> int:
        """Run the benchmarks, print each report when it is finished, and return the exit code."""
        from lifemask.evaluation.run import evaluate, write_test_photos
        from lifemask.evaluation.tables import as_json, as_text

        folder, name = self.config.write_photos, self.benchmark
        if name in FORMER_NAMES:
            print(f"{name} is now called {FORMER_NAMES[name]}", file=sys.stderr)
            name = FORMER_NAMES[name]
        try:
            if folder is not None:
                written = write_test_photos(name, self.config, folder, progress=_progress)
                print(f"{len(written)} photos in {folder / name}. Write NAME.npz for NAME.png.")
                return DONE
            for report in evaluate(name, self.config, progress=_progress):
                print(as_json(report) if self.json else as_text(report), flush=True)
        except EvaluationError as error:
            print(error, file=sys.stderr)
            return FAILED
        return DONE


def _progress(label: str, done: int, total: int) -> None:
    """Show a counter in one line of a terminal, removed at the end; print nothing in a pipe."""
    if sys.stderr.isatty():
        end = "\r\033[K" if done >= total else ""
        print(f"\r\033[K{label} {done}/{total}{end}", end="", file=sys.stderr, flush=True)
