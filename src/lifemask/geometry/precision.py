"""Single precision as torch's default while this package works, whatever the caller has chosen."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0
_outside = torch.float32


@contextmanager
def single_precision() -> Generator[None]:
    """Let new tensors be float32, and restore the caller's default at the end.

    The default is one for all threads: it is restored when the last thread has left.
    """
    global _inside, _outside
    with _lock:
        if _inside == 0:
            _outside = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_default_dtype(_outside)
