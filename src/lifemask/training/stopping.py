"""Ctrl-C and termination signals as requests to stop after a step, and when something is due."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger(__name__)


@dataclass
class StopRequests:
    """Signals that came while training."""

    received: int = 0
    """Number of the last signal; 0 when none came."""


@contextlib.contextmanager
def stop_requests() -> Generator[StopRequests]:
    """Turn Ctrl-C and SIGTERM into a request to stop after the step; a second one acts at once."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def note(number: int, frame: FrameType | None) -> None:
        if requests.received:
            raise KeyboardInterrupt
        requests.received = number
        logger.warning("Stopping after this step; a checkpoint is written. Again: stop at once.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_due(step: int, steps: int | None, minutes: float, last: float) -> bool:
    """Return whether something that recurs is due.

    Args:
        step: finished steps.
        steps: its distance in steps; None: the minutes count.
        minutes: its distance in time.
        last: `time.monotonic()` of the last time.
    """
    if steps is not None:
        return step % steps == 0
    return time.monotonic() - last >= minutes * 60
