"""Animations of pictures: GIF, and MP4 with the extra `video`."""

# PyAV has incomplete types, and may not be installed.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import io
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lifemask.io.files import write_bytes

SUFFIXES = (".gif", ".mp4")
"""Endings of animations."""
_COLOURS = 256
_PALETTE_FRAMES = 6
"""Number of frames whose colours make the palette of a GIF."""


def write_animation(
    path: str | os.PathLike[str],
    frames: Sequence[UInt8[np.ndarray, "H W 3"]],
    *,
    frames_per_second: float,
) -> None:
    """Write sRGB pictures as an animation without end (GIF) or as a video (MP4), by the suffix.

    Raises:
        ValueError: the suffix is neither .gif nor .mp4.
        ImportError: an MP4 file needs the extra `video`, which is not installed.
        OutputError: the file cannot be written; nothing half-written is left.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".gif":
            write_bytes(path, _gif(frames, frames_per_second))
        case ".mp4":
            require_video()
            write_bytes(path, _mp4(frames, frames_per_second))
        case _:
            raise ValueError(f"Cannot write {path.name!r}. Known: {', '.join(SUFFIXES)}.")


def require_video() -> None:
    """Raise an ImportError that says what to install, if PyAV is missing."""
    try:
        import_module("av")
    except ImportError as error:
        raise ImportError(
            "MP4 files need the package av. Run: pip install 'lifemask[video]', or write a GIF."
        ) from error


def _gif(frames: Sequence[UInt8[np.ndarray, "H W 3"]], frames_per_second: float) -> bytes:
    # With one palette for all frames, colours do not flicker.
    step = max(len(frames) // _PALETTE_FRAMES, 1)
    sheet = Image.fromarray(np.concatenate(frames[::step]))
    palette = sheet.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    pictures = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / frames_per_second),
        loop=0,
    )
    return buffer.getvalue()


def _mp4(frames: Sequence[UInt8[np.ndarray, "H W 3"]], frames_per_second: float) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=round(frames_per_second))
        # Colours have half the resolution, so the sides must be even.
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame[:height, :width]), format="rgb24"
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()
