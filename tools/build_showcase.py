"""Rebuild the picture at the top of the README from the portraits that ship with the project.

python tools/build_showcase.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lifemask import FaceReconstructor

ROOT = Path(__file__).parent.parent
PORTRAITS = (2, 7, 3, 8, 4)
"""Numbers of the sample portraits, from top to bottom."""
WIDTH = 1320
GAP = 6


def main() -> None:
    """Reconstruct the portraits and write their previews as one JPEG."""
    reconstructor = FaceReconstructor.from_pretrained()
    rows: list[np.ndarray] = []
    for number in PORTRAITS:
        path = ROOT / f"src/lifemask/assets/samples/portrait_{number}.jpg"
        row = reconstructor(path, faces="largest")[0].preview()
        rows += [row, np.full((GAP, row.shape[1], 3), 255, np.uint8)]
    sheet = Image.fromarray(np.concatenate(rows[:-1]))
    height = round(sheet.height * WIDTH / sheet.width)
    target = ROOT / "docs/images/showcase.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((WIDTH, height), Image.Resampling.LANCZOS).save(target, quality=88)
    print(target)


if __name__ == "__main__":
    main()
