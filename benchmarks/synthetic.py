"""Measure how many synthetic photos are drawn per second, and the time of each stage.

    python benchmarks/synthetic.py [--photos 64] [--processes 2] [--bare]

Prints photos per second of wall time over all processes, milliseconds of processor time per photo
of one process alone (the reliable figure on a machine that does other work) and each stage's share
of it under a profiler, which slows stages that call many small functions.
"""

import argparse
import cProfile
import multiprocessing
import pstats
import time

import torch

from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces

# The functions of each stage; their times, including functions they call, are summed.
STAGES = {
    "random numbers": ("_person", "_moments"),
    "head shape": ("vertices",),
    "skin textures": ("_skin",),
    "shadows and normals": ("light_heads",),
    "drawing the head": ("draw_heads",),
    "hair and clothes": ("_dressed", "_worn"),
    "labels": ("labelled",),
    "background and camera": ("_photograph",),
}
BATCH = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the speed of the synthetic faces.")
    parser.add_argument("--photos", type=int, default=64, help="photos per process")
    parser.add_argument("--processes", type=int, default=2, help="processes, one core each")
    parser.add_argument("--bare", action="store_true", help="without hair, clothes and hands")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bare = SyntheticConfig(dressed=0.0, mask=0.0, hand=0.0, held=0.0)
    config = bare if options.bare else SyntheticConfig()
    faces = SyntheticFaces(config)
    faces.batch(0, 0, BATCH)

    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=_make, args=(faces, seed, options.photos))
        for seed in range(options.processes)
    ]
    start = time.perf_counter()
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    wall = time.perf_counter() - start
    print(f"{options.photos * options.processes / wall:.1f} photos/s of {config.size} px", end=" ")
    print(f"in {options.processes} processes")

    busy = time.process_time()
    _make(faces, 1, options.photos)
    busy = time.process_time() - busy
    print(f"{busy / options.photos * 1000:.1f} ms of processor time per photo")

    profile = cProfile.Profile(time.process_time)
    busy = time.process_time()
    profile.enable()
    _make(faces, 1, options.photos)
    profile.disable()
    busy = time.process_time() - busy
    print(f"{busy / options.photos * 1000:.1f} ms under the profiler, of which")
    stats = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    for stage, names in STAGES.items():
        spent = sum(
            row[3]
            for (file, _, name), row in stats.items()
            if name in names and ("synthetic" in file or name == "vertices")
        )
        print(f"  {100 * spent / busy:5.1f} %  {stage}")


def _make(faces: SyntheticFaces, seed: int, photos: int) -> None:
    for index in range(-(-photos // BATCH)):
        faces.batch(seed, index, BATCH)


if __name__ == "__main__":
    main()
