"""Environments of light are read from .hdr and .exr files; other files are refused in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lifemask.io.panoramas import PanoramaError, read_panorama

SIZE = b"-Y 8 +X 16\n"
HEADER = b"#?RADIANCE\nEXPOSURE=1\nFORMAT=32-bit_rle_rgbe\n\n"


def rgbe(values: np.ndarray) -> np.ndarray:
    """Return the four bytes of each linear RGB value."""
    largest = values.max(-1, keepdims=True)
    exponent = np.ceil(np.log2(np.maximum(largest, 1e-30))).astype(int)
    mantissa = np.floor(values * 256 / 2.0**exponent).clip(0, 255)
    return np.concatenate([mantissa, np.where(largest > 0, exponent + 128, 0)], -1).astype(np.uint8)


def in_runs(pixels: np.ndarray) -> bytes:
    """Return rows where each channel is one run, if it is constant, and literal bytes otherwise."""
    out = bytearray()
    for row in pixels:
        out += b"\2\2" + len(row).to_bytes(2, "big")
        for channel in row.T:
            if (channel == channel[0]).all():
                out += bytes([128 + len(row), channel[0]])
            else:
                out += bytes([len(row)]) + channel.tobytes()
    return bytes(out)


@pytest.fixture
def sky() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.01, 3, (8, 16, 3)).astype(np.float32)
    values[2, 5] = 5000.0
    values[3] = (0.5, 0.25, 1.0)
    return values


@pytest.mark.parametrize("runs", [True, False])
def test_radiance_pictures_hold_light_without_limits(
    tmp_path: Path, sky: np.ndarray, runs: bool
) -> None:
    pixels = rgbe(sky)
    (tmp_path / "a.hdr").write_bytes(
        HEADER + SIZE + (in_runs(pixels) if runs else pixels.tobytes())
    )
    read = read_panorama(tmp_path / "a.hdr")
    assert (np.abs(read - sky) <= sky.max(-1, keepdims=True) / 128).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with #.RADIANCE"),
        (b"\x89PNG\r\n", "does not begin with"),
        (HEADER, "header has no end"),
        (HEADER + b"-Y 8 -X 16\n", "'-Y 8 -X 16'; '-Y HEIGHT"),
        (HEADER.replace(b"rgbe", b"xyze") + SIZE, "states FORMAT=32-bit_rle_xyze; only"),
        (HEADER + b"-Y 99999 +X 199998\n", "199998 x 99999 pixels; 1 to 40 million"),
        (HEADER + SIZE + b"\2\2\0\x10" + bytes(200), "ends early or is damaged"),
        (HEADER + SIZE + b"\2\2\0\x10", "ends early"),
        (HEADER + SIZE + bytes(100), "100 of 512 bytes"),
        (HEADER + SIZE + bytes(512), "black everywhere"),
        (HEADER + b"-Y 8 +X 8\n" + b"\x80" * 256, "8 x 8 pixels.*twice as wide as high"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.hdr").write_bytes(data)
    with pytest.raises(PanoramaError, match=message) as caught:
        read_panorama(tmp_path / "a.hdr")
    assert "\n" not in str(caught.value)


def test_missing_files_and_other_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(PanoramaError, match=r"b\.hdr'.*No such file"):
        read_panorama(tmp_path / "b.hdr")
    with pytest.raises(PanoramaError, match=r"Known formats: \.hdr, \.exr"):
        read_panorama(tmp_path / "b.jpg")
    (tmp_path / "b.exr").write_bytes(b"no picture")
    with pytest.raises(PanoramaError, match="no OpenEXR picture"):
        read_panorama(tmp_path / "b.exr")


def test_exr_files_hold_the_same_light(tmp_path: Path, sky: np.ndarray) -> None:
    openexr = pytest.importorskip("OpenEXR")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File(header, {"RGB": sky}) as file:
        file.write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(read_panorama(tmp_path / "a.exr"), sky)
    data = (tmp_path / "a.exr").read_bytes()
    (tmp_path / "a.exr").write_bytes(data[: len(data) // 2])
    with pytest.raises(PanoramaError, match=r"a\.exr' is no OpenEXR picture"):
        read_panorama(tmp_path / "a.exr")


def test_exr_files_name_the_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01")
    with pytest.raises(ImportError, match=r"pip install 'lifemask\[exr\]'"):
        read_panorama(tmp_path / "a.exr")
