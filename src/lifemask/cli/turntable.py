"""`lifemask turntable`: an animation of a reconstructed head that turns once."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, USAGE
from lifemask.cli.progress import ProgressLine


@dataclass(frozen=True)
class Turntable:
    """Draw a reconstructed head that turns once about its vertical axis."""

    head: tyro.conf.Positional[Path]
    """NAME.glb, or NAME.json with NAME.glb beside it."""
    output: tyro.conf.Positional[Path]
    """Animation to write: .gif, or .mp4 with the extra `video`."""
    size: int = 480
    """Pixels per side, an even number."""
    frames: int = 48
    """Pictures of one turn."""
    seconds: float = 4.0
    """Time of one turn."""

    def run(self) -> int:
        """Draw and write the animation, and return the exit code."""
        from lifemask.io.animations import SUFFIXES, require_video, write_animation
        from lifemask.io.files import OutputError, check_writable
        from lifemask.io.gltf_reader import GltfError
        from lifemask.io.images import PhotoError
        from lifemask.pipeline.saved import SavedHeadError, read_head
        from lifemask.pipeline.turntable import turntable_frames

        if fault := self._fault(SUFFIXES):
            print(fault, file=sys.stderr)
            return USAGE
        progress = ProgressLine(self.frames)
        try:
            if self.output.suffix.lower() == ".mp4":
                require_video()
            check_writable(self.output)
            pictures = []
            for picture in turntable_frames(
                read_head(self.head), frames=self.frames, size=self.size
            ):
                pictures.append(picture)
                progress.finished = min(len(pictures), self.frames - 1)
                progress.show(str(self.output), "drawing")
            write_animation(self.output, pictures, frames_per_second=self.frames / self.seconds)
        except (SavedHeadError, GltfError, PhotoError, OutputError, ImportError) as error:
            progress.clear()
            print(error, file=sys.stderr)
            return FAILED
        progress.clear()
        print(self.output)
        return DONE

    def _fault(self, suffixes: tuple[str, ...]) -> str:
        """Return what is wrong with the options, or an empty text."""
        if self.output.suffix.lower() not in suffixes:
            return f"Cannot write {str(self.output)!r}. Known: {', '.join(suffixes)}."
        if not 16 <= self.size <= 2048 or self.size % 2:
            return f"Cannot draw --size {self.size}. Allowed: even numbers from 16 to 2048."
        if not 2 <= self.frames <= 720:
            return f"Cannot draw --frames {self.frames}. Allowed: 2 to 720."
        if not self.frames / 50 <= self.seconds <= 600:
            return (
                f"Cannot show {self.frames} frames in --seconds {self.seconds:g}. Allowed: "
                f"{self.frames / 50:g} (50 frames a second) to 600."
            )
        return ""
