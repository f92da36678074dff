"""Large photos are reconstructed within the documented memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import lifemask
from lifemask.morphable.assets import asset_path

STATUS = Path("/proc/self/status")

PROGRAM = """
import sys
from pathlib import Path
from lifemask.pipeline.reconstructor import FaceReconstructor
(face,) = FaceReconstructor.from_pretrained(quality="fast")(sys.argv[1], faces="largest")
face.save(Path(sys.argv[1]).with_name("face.glb"))
assert face.texture.size == 8192
# Not getrusage: its maximum starts with what the process that started this one had.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""


@pytest.mark.skipif(not STATUS.exists(), reason="peak memory is read from Linux's /proc")
def test_a_close_up_of_40_megapixels_needs_less_than_two_gigabytes(tmp_path: Path) -> None:
    """In floating point, the photo alone needs 0.5 gigabytes and its texture 0.8."""
    with Image.open(asset_path("samples/portrait_1")) as sample:
        width, height = sample.size
        part = sample.crop((width // 5, height // 7, width * 4 // 5, height * 6 // 7))
        part.resize((6000, 6700), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "photo.jpg")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(lifemask.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout.split()[-1])
    assert kilobytes * 1024 < 2e9
