"""Radiance's picture format (.hdr), which holds light without limits, into linear RGB.

Ward, "Real pixels", Graphics Gems II, 1991: a byte each for the mantissas of red, green and blue, and
one for their common exponent. Rows are stored as they are, or with runs of equal bytes.
"""

import re

import numpy as np
from jaxtyping import Float, UInt8

_MAGIC = (b"#?RADIANCE", b"#?RGBE")
_SIZE = re.compile(rb"-Y (\d{1,9}) \+X (\d{1,9})")
_LONGEST_HEADER = 1 << 16
_RUN_SIDES = (8, 32767)
"""Widths of rows that may be stored in runs."""


class RadianceError(ValueError):
    """The bytes are no picture in Radiance's format; the message says what was found."""


def decode_radiance(data: bytes, *, most_pixels: int) -> Float[np.ndarray, "H W 3"]:
    """Return the linear RGB values of a Radiance picture, rows from the top.

    Args:
        data: the bytes of the file.
        most_pixels: larger pictures are refused before they are decoded.

    Raises:
        RadianceError: it is another format, too large, or damaged.
    """
    height, width, start = _header(data)
    if not 0 < height * width <= most_pixels:
        raise RadianceError(
            f"it has {width} x {height} pixels; 1 to {most_pixels / 1e6:g} million are allowed"
        )
    rgbe = _pixels(data, start, height, width)
    exponent = rgbe[..., 3:].astype(np.int32)
    scale = np.where(exponent > 0, np.ldexp(np.float32(1), exponent - 136), np.float32(0))
    return ((rgbe[..., :3] + np.float32(0.5)) * scale).astype(np.float32)


def _header(data: bytes) -> tuple[int, int, int]:
    """Return height, width, and where the pixels start."""
    if not data.startswith(_MAGIC):
        raise RadianceError("it does not begin with #?RADIANCE or #?RGBE")
    end = data.find(b"\n\n", 0, _LONGEST_HEADER)
    last = data.find(b"\n", end + 2, end + 2 + 64)
    if end < 0 or last < 0:
        raise RadianceError("its header has no end")
    for line in data[:end].split(b"\n"):
        if line.startswith(b"FORMAT=") and line.strip() != b"FORMAT=32-bit_rle_rgbe":
            found = line.decode("ascii", "replace").strip()
            raise RadianceError(f"it states {found}; only FORMAT=32-bit_rle_rgbe is known")
    size = _SIZE.fullmatch(data[end + 2 : last].strip())
    if size is None:
        found = data[end + 2 : last].decode("ascii", "replace").strip()
        raise RadianceError(f"its size is {found!r}; '-Y HEIGHT +X WIDTH' is needed")
    return int(size[1]), int(size[2]), last + 1


def _pixels(data: bytes, start: int, height: int, width: int) -> UInt8[np.ndarray, "H W 4"]:
    low, high = _RUN_SIDES
    in_runs = low <= width <= high and data[start : start + 2] == b"\2\2"
    if not in_runs:
        needed = height * width * 4
        if len(data) - start < needed:
            raise RadianceError(f"it ends early: {len(data) - start} of {needed} bytes of pixels")
        plain = np.frombuffer(data, np.uint8, needed, start).reshape(height, width, 4)
        if width >= 2 and bool((plain[..., :3] == 1).all(-1).any()):
            raise RadianceError("it may hold runs of a format of before 1991; save it again")
        return plain
    # A row takes at least 4 bytes and 2 for each run of 127 bytes.
    if (len(data) - start) < height * (4 + 8 * -(-width // 127)):
        raise RadianceError("it ends early")
    rows = np.empty((height, 4, width), np.uint8)
    for row in range(height):
        head = data[start : start + 4]
        if head[:2] != b"\2\2" or int.from_bytes(head[2:], "big") != width:
            raise RadianceError(f"row {row} is damaged")
        values, start = _runs(data, start + 4, 4 * width)
        rows[row] = np.frombuffer(values, np.uint8).reshape(4, width)
    return rows.transpose(0, 2, 1)


def _runs(data: bytes, start: int, count: int) -> tuple[bytearray, int]:
    """Return so many bytes that are stored in runs, and where the next row starts."""
    values = bytearray()
    while len(values) < count:
        head = data[start] if start < len(data) else 0
        repeated = head > 128
        length = head - 128 if repeated else head
        used = 2 if repeated else 1 + length
        if length == 0 or start + used > len(data) or len(values) + length > count:
            raise RadianceError("it ends early or is damaged")
        values += (
            data[start + 1 : start + 2] * length if repeated else data[start + 1 : start + used]
        )
        start += used
    return values, start
