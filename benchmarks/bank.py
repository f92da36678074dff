"""Measure how fast a bank of faces is drawn and read with augmentation, and how large it is.

    python benchmarks/bank.py [--count 32] [--size 192] [--crop-size 160] [--maps] [--bank FOLDER]

Draws a small bank in a temporary folder (or takes the one of `--bank`) and reads batches of it in one
process. Prints faces drawn and crops read per second of wall time and of processor time; the latter is
the honest figure on a machine that does other work.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.drawing import draw_part, item_bytes
from lifemask.data.bank.parts import write_part
from lifemask.data.bank.plan import BankPlan, crop_config, part_path, read_plan, write_plan
from lifemask.data.bank.version import generator_version
from lifemask.data.synthetic import SyntheticConfig
from lifemask.training.config import BankSource
from lifemask.training.sources import open_bank_source

BATCH = 45
REPEATS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the speed of banks of faces.")
    parser.add_argument("--count", type=int, default=32, help="faces to draw")
    parser.add_argument("--size", type=int, default=192, help="pixels of the frame")
    parser.add_argument("--margin", type=float, default=1.25)
    parser.add_argument("--crop-size", type=int, help="pixels of the crops; default: the frame's")
    parser.add_argument("--batches", type=int, default=10, help="to read")
    parser.add_argument("--maps", action="store_true", help="with albedo and displacement")
    parser.add_argument("--bank", type=Path, help="read this bank instead of drawing one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bank is not None:
        _read(options.bank, options.crop_size, options.batches)
        return
    drawing = SyntheticConfig(uniform_yaw=0.7, samples=1, texture_size=64)
    config = crop_config(drawing, options.size, options.margin)
    plan = BankPlan(
        "stills", options.count, config, 0, generator_version(),
        part_size=options.count, maps=options.maps,
    )  # fmt: skip
    draw_part(BankPlan("stills", 1, config, 1, plan.generator, maps=options.maps), 0, ())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_plan(path, plan)
        _measure(
            f"drawn, {config.size} px with margin", options.count,
            lambda: write_part(path, plan, 0, draw_part(plan, 0, ())),
        )  # fmt: skip
        size = part_path(path, 0).stat().st_size / options.count
        print(f"{size / 1000:.0f} kB a face, {item_bytes(plan) / 1000:.0f} kB expected")
        _read(path, options.crop_size, options.batches)


def _read(folder: Path, crop_size: int | None, batches: int) -> None:
    plan = read_plan(folder)
    size = crop_size or plan.side
    for repeats in (1, REPEATS):
        source = BankSource(1.0, str(folder), repeats=repeats, any_version=True)
        faces, _, _ = open_bank_source(source, None, size, (0, 1))
        faces.batch(0, BATCH)
        _measure(
            f"read at {size} px, {repeats} of each face", batches * BATCH * plan.frames,
            lambda faces=faces: [faces.batch(index, BATCH) for index in range(batches)],
        )  # fmt: skip
    raw, _, _ = open_bank_source(
        BankSource(1.0, str(folder), augmentation=Augmentation.none(), any_version=True),
        None, size, (0, 1),
    )  # fmt: skip
    _measure(
        f"read at {size} px, not varied", batches * BATCH * plan.frames,
        lambda: [raw.batch(index, BATCH) for index in range(batches)],
    )  # fmt: skip


def _measure(what: str, count: int, work: Callable[[], object]) -> None:
    wall, busy = time.perf_counter(), time.process_time()
    work()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    print(
        f"{what}: {count / wall:.1f} a second; {count / busy:.1f} a second of processor time",
        flush=True,
    )


if __name__ == "__main__":
    main()
