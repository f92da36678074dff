"""The package works in single precision, and callers keep their own default."""

import threading
from collections.abc import Iterator

import pytest
import torch

from lifemask.geometry.precision import single_precision


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_by_default")
def test_new_tensors_are_single_only_inside() -> None:
    with pytest.raises(KeyError), single_precision():
        with single_precision():
            assert torch.ones(1).dtype == torch.float32
        assert torch.ones(1).dtype == torch.float32
        raise KeyError
    assert torch.ones(1).dtype == torch.float64


@pytest.mark.usefixtures("double_by_default")
def test_threads_that_overlap_do_not_disturb_each_other() -> None:
    """The second thread enters before the first leaves, and leaves after it."""
    entered, left = threading.Event(), threading.Event()
    found: list[torch.dtype] = []

    def second() -> None:
        with single_precision():
            entered.set()
            left.wait(10)
            found.append(torch.ones(1).dtype)

    thread = threading.Thread(target=second)
    with single_precision():
        thread.start()
        entered.wait(10)
    left.set()
    thread.join()
    assert found == [torch.float32]
    assert torch.ones(1).dtype == torch.float64
