"""Run benchmarks by name and report the provenance of their figures."""

import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lifemask.evaluation.collect import Progress, silent
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.tables import Report, Table, write_report

_BENCHMARKS = (
    *("aflw21", "gross", "synthetic", "synthetic_detail", "yaleb", "photos"),
    *("jitter", "robustness", "speed"),
)

# Benchmarks whose data are not in the folder `dev`; `all` leaves them out.
_BY_NAME = ("aflw2000",)

# Benchmarks that draw their photos.
_DRAWN = ("synthetic", "synthetic_detail")

# Further tables of a benchmark, besides the one with its own name.
_MORE_TABLES = {"synthetic": ("synthetic_tone", "synthetic_clips", "synthetic_relit")}


def table_names() -> tuple[str, ...]:
    """Return the names of all tables, in the order of `all`, then those that it leaves out."""
    names = (*_BENCHMARKS, *_BY_NAME)
    return tuple(table for name in names for table in (name, *_MORE_TABLES.get(name, ())))


def write_test_photos(
    name: str, config: EvaluationConfig, folder: Path, *, progress: Progress = silent
) -> list[Path]:
    """Write the photos that a benchmark draws, as `BENCHMARK/KEY.png`; return their paths.

    Raises:
        EvaluationError: the benchmark's photos are in the data folder, or data are missing.
    """
    if name not in _DRAWN:
        raise EvaluationError(
            f"Only the photos of {' and '.join(_DRAWN)} can be written; those of {name!r} are in the "
            "data folder. Run: lifemask evaluate synthetic --write-photos DIR."
        )
    module = import_module(f"lifemask.evaluation.benchmarks.{name}")
    return module.write_photos(config, folder, progress=progress)


def evaluate(
    name: str, config: EvaluationConfig | None = None, *, progress: Progress = silent
) -> Iterator[Report]:
    """Yield the reports of one benchmark, or of all for "all", each as soon as it is finished.

    With `config.output`, each report is also written to that folder as Markdown and JSON.

    Raises:
        EvaluationError: a benchmark or system is unknown, data are missing, or a required prediction
            is missing.
    """
    config = EvaluationConfig() if config is None else config
    if name not in ("all", *_BENCHMARKS, *_BY_NAME):
        raise EvaluationError(
            f"Unknown benchmark {name!r}. Known: {', '.join((*_BENCHMARKS, *_BY_NAME))}, or all."
        )
    for benchmark in _BENCHMARKS if name == "all" else (name,):
        module = import_module(f"lifemask.evaluation.benchmarks.{benchmark}")
        run: Callable[..., Table | tuple[Table, ...]] = module.run
        started = time.monotonic()
        found = run(config, progress=progress)
        provenance = _provenance(config, time.monotonic() - started)
        for table in found if isinstance(found, tuple) else (found,):
            report = Report(table, provenance)
            if config.output is not None:
                write_report(report, config.output)
            yield report


def _provenance(config: EvaluationConfig, seconds: float) -> dict[str, str]:
    about = {
        "lifemask": _version("lifemask"),
        "commit": _commit(),
        "Python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "machine": _machine(),
        "seed": str(config.seed),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{seconds:.0f} s with {config.workers} worker(s)",
    }
    options = [n for n in ("fast", "all") if getattr(config, n)]
    if config.limit is not None:
        options.append(f"limit {config.limit}: not the benchmark's figures")
    if options:
        about["options"] = ", ".join(options)
    return about


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Return the checkout's commit, with a plus sign if files differ from it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _machine() -> str:
    import os

    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
