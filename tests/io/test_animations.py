"""Animations hold all frames in their colours; missing packages are named."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.io.animations import write_animation

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
FRAMES = [np.full((32, 48, 3), colour, np.uint8) for colour in COLOURS]


def test_a_gif_repeats_its_frames_at_their_speed(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.gif", FRAMES, frames_per_second=10)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        assert image.info["duration"] == 100
        for number, colour in enumerate(COLOURS):
            image.seek(number)
            seen = np.asarray(image.convert("RGB")).astype(int)
            assert np.abs(seen - colour).max() < 8


def test_an_mp4_holds_its_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    write_animation(tmp_path / "a.mp4", FRAMES, frames_per_second=10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(seen) == 3
    for frame, colour in zip(seen, COLOURS, strict=True):
        assert np.abs(frame.astype(int).mean((0, 1)) - colour).max() < 20


def test_an_mp4_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'lifemask\[video\]'"):
        write_animation(tmp_path / "a.mp4", FRAMES, frames_per_second=10)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Known: \.gif, \.mp4"):
        write_animation(tmp_path / "a.webm", FRAMES, frames_per_second=10)
