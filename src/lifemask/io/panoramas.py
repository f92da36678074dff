"""Panoramas of light (HDR environments) from files: Radiance .hdr, and .exr with the extra `exr`."""

# OpenEXR has no types, and may not be installed.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lifemask.io.radiance import RadianceError, decode_radiance

_MOST_PIXELS = 40_000_000
_MOST_BYTES = 1 << 29
_SMALLEST_HEIGHT = 4
_BRIGHTEST = 1e6
"""Larger values are cut: the sun is not much brighter than this over the sky."""


class PanoramaError(ValueError):
    """A file holds no panorama of light; the message says what was found and what to do."""


def read_panorama(path: str | os.PathLike[str]) -> Float[np.ndarray, "H W 3"]:
    """Read a panorama by longitude and latitude: linear RGB, not negative, rows from the zenith.

    Raises:
        PanoramaError: the file is missing, damaged or too large, has another format, is not twice as
            wide as high, or is black.
        ImportError: an .exr file needs the extra `exr`, which is not installed.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PanoramaError(
            f"Cannot read {str(path)!r} as an environment. Known formats: .hdr, .exr."
        )
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise PanoramaError(
                f"{str(path)!r} has {size / 1e6:.0f} MB; at most {_MOST_BYTES >> 20} are allowed. "
                "Reduce it: 1024 x 512 pixels are enough."
            )
        values = reader(path)
    except OSError as error:
        raise PanoramaError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except RadianceError as error:
        raise PanoramaError(f"{str(path)!r} is no Radiance picture: {error}.") from error
    height, width = values.shape[:2]
    if width != 2 * height or height < _SMALLEST_HEIGHT:
        raise PanoramaError(
            f"{str(path)!r} has {width} x {height} pixels. An environment shows all directions by "
            "longitude and latitude: it is twice as wide as high."
        )
    values = np.nan_to_num(values, nan=0.0, posinf=_BRIGHTEST).clip(0, _BRIGHTEST)
    if not values.any():
        raise PanoramaError(f"{str(path)!r} is black everywhere. Name an environment with light.")
    return values


def _read_hdr(path: Path) -> Float[np.ndarray, "H W 3"]:
    return decode_radiance(path.read_bytes(), most_pixels=_MOST_PIXELS)


def _read_exr(path: Path) -> Float[np.ndarray, "H W 3"]:
    with path.open("rb") as file:
        if file.read(4) != b"\x76\x2f\x31\x01":
            raise PanoramaError(f"{str(path)!r} is no OpenEXR picture.")
    try:
        openexr: Any = import_module("OpenEXR")
    except ImportError as error:
        raise ImportError(
            "EXR files need the package OpenEXR. Run: pip install 'lifemask[exr]', or save the "
            "environment as .hdr."
        ) from error
    try:
        header = openexr.File(str(path), header_only=True).header()
        low, high = header["dataWindow"]
        pixels = int(high[0] - low[0] + 1) * int(high[1] - low[1] + 1)
        if not 0 < pixels <= _MOST_PIXELS:
            raise PanoramaError(
                f"{str(path)!r} has {pixels} pixels; at most {_MOST_PIXELS} are allowed."
            )
        channels = openexr.File(str(path), separate_channels=True).channels()
        planes = [np.asarray(channels[name].pixels) for name in "RGB" if name in channels]
    except PanoramaError:
        raise
    # The library raises errors of many types for damaged files.
    except Exception as error:
        raise PanoramaError(f"{str(path)!r} is no OpenEXR picture: {error}.") from error
    if len(planes) != 3:
        raise PanoramaError(
            f"{str(path)!r} has the channels {', '.join(sorted(channels))}; R, G and B are needed."
        )
    return np.stack(planes, -1).astype(np.float32)


_READERS: dict[str, Callable[[Path], Float[np.ndarray, "H W 3"]]] = {
    ".hdr": _read_hdr,
    ".exr": _read_exr,
}
