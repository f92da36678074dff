"""Progress of a batch: one line on a terminal with photo, stage and time left; nothing in a pipe."""

import shutil
import sys
import time
from dataclasses import dataclass, field


@dataclass
class ProgressLine:
    """The line that shows how far a batch is; other output first removes it with `clear`."""

    total: int
    """Photos of the batch."""
    begun: float = field(default_factory=time.monotonic)
    """When the work began, on the clock `time.monotonic`."""
    finished: int = 0
    """Photos that are finished."""

    def show(self, photo: str, stage: str) -> None:
        """Show what is done with a photo at the moment."""
        if sys.stderr.isatty():
            text = f"[{self.finished + 1}/{self.total}] {photo}: {stage}{self._time_left()}"
            width = max(shutil.get_terminal_size().columns - 1, 20)
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _time_left(self) -> str:
        """Return the time left, from the mean time of the finished photos; empty until one is."""
        if self.finished == 0:
            return ""
        passed = time.monotonic() - self.begun
        left = passed / self.finished * (self.total - self.finished)
        return f", about {duration(left)} left"


def duration(seconds: float) -> str:
    """Return a time as people say it: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
