"""`speed`: seconds to the first prediction, milliseconds per face after it, and peak memory."""

import multiprocessing
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.collect import Progress, is_stored, silent
from lifemask.evaluation.config import EvaluationConfig, EvaluationError, Quality
from lifemask.evaluation.datasets import development_folder, draw, read_photos
from lifemask.evaluation.systems.protocol import System
from lifemask.evaluation.systems.registry import load_system
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.morphable.contour import fixed_landmarks68
from lifemask.systems.registry import DEFAULT_SYSTEM, first_stages, system_class
from lifemask.systems.registry import load_system as load_shipped
from lifemask.training.system import FramedFaces

_PHOTOS: dict[Quality, int] = {"fast": 12, "full": 6}
"""Number of photos that are timed after the first."""

_POINTS = ("landmarks68", "aflw21")
"""Fields that need only a fit, without drawing and without a texture."""

_COLUMNS = (
    Column("fast cold s", 1, "< 8"),
    Column("fast fit ms", 0, "≤ 500"),
    Column("fast warm ms", 0),
    Column("network ms", 1, "≤ 25"),
    Column("full cold s", 1),
    Column("full warm ms", 0, "≤ 15000"),
    Column("fast peak MB", 0, "< 2000"),
    Column("full peak MB", 0, "< 2000"),
)


@dataclass(frozen=True)
class Timing:
    """Times and memory of one system in its own process."""

    cold_seconds: float
    """From the start of the process to the first prediction, imports and loading included."""
    warm_milliseconds: tuple[float, ...]
    """Time of each further photo, with all fields of the prediction."""
    fit_milliseconds: tuple[float, ...]
    """The same photos, only landmarks: detecting, observing and fitting the face."""
    peak_megabytes: float
    """Peak resident memory of the process, in 10^6 bytes."""
    threads: int
    """Number of threads of torch."""


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return timings of every system that runs on photos, each in a fresh process."""
    development = development_folder(config.data)
    photos = draw(read_photos(development), 1 + max(_PHOTOS.values()), seed=config.seed)
    pixels = [photo.pixels() for photo in photos]
    rows: list[Row] = []
    threads = 0
    for done, system in enumerate(config.systems):
        cells: dict[str, Cell] = {}
        if (name := _predicting(system)) is not None:
            cells["network ms"] = Cell(network_milliseconds(name))
        if not is_stored(system, development):
            for quality, count in _PHOTOS.items():
                if config.fast and quality == "full":
                    continue
                timing = time_system(system, development, pixels[: count + 1], quality)
                threads = timing.threads
                warm = np.array(timing.warm_milliseconds)
                low, high = np.percentile(warm, [10, 90])
                cells[f"{quality} cold s"] = Cell(timing.cold_seconds)
                cells[f"{quality} warm ms"] = Cell(
                    float(np.median(warm)), note=f"{low:.0f} to {high:.0f}"
                )
                if quality == "fast":
                    cells["fast fit ms"] = Cell(float(np.median(timing.fit_milliseconds)))
                cells[f"{quality} peak MB"] = Cell(timing.peak_megabytes)
        rows.append(Row(config.label(system), cells))
        progress("speed", done + 1, len(config.systems))
    return Table(
        "speed",
        "time and memory per face, each system in a fresh process",
        _COLUMNS,
        tuple(rows),
        (
            f"warm: median, with the 10th and 90th percentile, of {_PHOTOS['fast']} photos (fast) "
            f"and {_PHOTOS['full']} (full) after the first; {threads} thread(s) in torch.",
            "fast fit: the same photos, landmarks alone: the face is detected, observed and fitted, "
            "without texture and arrays.",
            "network: after detection, one pass of the system that predicts the face (of fits: where they "
            "start), its head, and its 68 points; one thread, convolutions in ONNX Runtime. Dashes: without "
            "ONNX Runtime, or a system whose convolutions it cannot run.",
            "cold: from the start of the process to the first prediction, with imports and "
            "compilation; the system's files may be in the cache of the operating system.",
            "dashes: stored predictions cannot be timed.",
        ),
    )


def _predicting(system: str) -> str | None:
    """Return the shipped system whose network runs in ONNX Runtime for a system, if there is one."""
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return None
    name = DEFAULT_SYSTEM if system == "fit" else system.removesuffix("_fit")
    exported = name in first_stages() and "use_onnx_runtime" in vars(system_class(name))
    return name if exported else None


def network_milliseconds(name: str, *, repeats: int = 30) -> float:
    """Return the median time of one pass of a shipped system on a crop, with its 68 points.

    Args:
        name: of a system that `use_onnx_runtime` changes.
        repeats: how many passes are timed, after two that are not.
    """
    import torch

    system = load_shipped(name, runtime="onnxruntime")
    assert system.model.landmarks68 is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[float] = []
    try:
        with torch.no_grad():
            for k in range(repeats + 2):
                crop = torch.rand(1, 3, system.crop_size, system.crop_size)
                before = time.perf_counter()
                face = system(FramedFaces(crop))[0]
                vertices = system.model.vertices(face.coefficients)
                face.camera.project(fixed_landmarks68(system.model, vertices))
                if k >= 2:
                    taken.append(1000 * (time.perf_counter() - before))
    finally:
        torch.set_num_threads(threads)
    return float(np.median(taken))


def time_system(
    system: str, development: Path, pixels: list[UInt8[np.ndarray, "H W 3"]], quality: Quality
) -> Timing:
    """Return the timing of a system in a fresh process; the first photo is the cold one.

    Raises:
        EvaluationError: the process ended without a prediction.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_time_in_process, args=(sender, time.time(), system, development, pixels, quality)
    )
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise EvaluationError(
            f"Timing {system} ({quality}) ended without a prediction; its error is printed above."
        ) from error
    finally:
        process.join()


def _time_in_process(
    sender: Connection,
    started: float,
    name: str,
    development: Path,
    pixels: list[UInt8[np.ndarray, "H W 3"]],
    quality: Quality,
) -> None:
    import torch

    system = load_system(name, development)
    assert isinstance(system, System)
    system.predict(pixels[0], crop=False, quality=quality)
    cold = time.time() - started

    def milliseconds(fields: tuple[str, ...] | None) -> tuple[float, ...]:
        taken: list[float] = []
        for photo in pixels[1:]:
            before = time.perf_counter()
            system.predict(photo, crop=False, quality=quality, fields=fields)
            taken.append(1000 * (time.perf_counter() - before))
        return tuple(taken)

    warm, fit = milliseconds(None), milliseconds(_POINTS)
    sender.send(Timing(cold, warm, fit, _peak_megabytes(), torch.get_num_threads()))


def _peak_megabytes() -> float:
    """Return the peak resident memory of this process, without that of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
