"""Rebuild the sheet of synthetic people in docs/training.md, or make another one.

python tools/build_drawn_faces.py [--seed 0] [--fits TAR ...] [--output PATH]
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.io.colour import srgb_from_linear
from lifemask.morphable.assets import read_card

TARGET = Path(__file__).parent.parent / "docs/images/drawn_faces.jpg"
ROWS, COLUMNS = 4, 8
SIZE = 160


def main() -> None:
    """Draw the first faces of a seed and write one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fits", type=Path, nargs="*", default=[], help="stored fits that give backgrounds"
    )
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    store = FitStore(options.fits, head=read_card("head/head").sha256) if options.fits else None
    faces = SyntheticFaces(SyntheticConfig(size=SIZE), surroundings=store)
    rows = [
        torch.cat(list(srgb_from_linear(faces.batch(options.seed, row, COLUMNS).photo)), -1)
        for row in range(ROWS)
    ]
    sheet = (torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(sheet).save(options.output, quality=88)
    print(options.output)


if __name__ == "__main__":
    main()
