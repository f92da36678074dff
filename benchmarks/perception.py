"""Measure the time of perception on one portrait, on one thread, for both runtimes.

    python benchmarks/perception.py [PHOTO]

Prints the median and the minimum processor time of several runs in milliseconds. With one thread on
an idle machine it equals wall time. Row `landmarks` of `lifemask evaluate aflw21` is the accuracy.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lifemask.io.images import read_photo
from lifemask.perception import FacePerception

PHOTO = Path(__file__).parents[1] / "src/lifemask/assets/samples/portrait_1.jpg"


def main() -> None:
    """Time detection and both qualities of observation in both runtimes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path, nargs="?", default=PHOTO)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    pixels = np.array(read_photo(options.photo).pixels)
    print(f"{options.photo.name}: {pixels.shape[1]} x {pixels.shape[0]} pixels")
    print(f"{'runtime':12} {'step':28} {'median':>8} {'minimum':>8}  ms")
    for runtime in ("torch", "onnxruntime"):
        perception = FacePerception.from_pretrained(runtime=runtime)
        face = perception.detect(pixels)[0]
        steps: dict[str, Callable[[], object]] = {
            "detect": lambda p=perception: p.detect(pixels),
            "observe fast": lambda p=perception, f=face: p.observe(pixels, f, quality="fast"),
            "observe full, points only": lambda p=perception, f=face: p.observe(
                pixels, f, segment=False, embed=False
            ),
            "observe full": lambda p=perception, f=face: p.observe(pixels, f),
        }
        for name, step in steps.items():
            times = [_milliseconds(step) for _ in range(options.repeats + 1)][1:]
            print(f"{runtime:12} {name:28} {statistics.median(times):8.1f} {min(times):8.1f}")


def _milliseconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return 1e3 * (time.process_time() - start)


if __name__ == "__main__":
    main()
