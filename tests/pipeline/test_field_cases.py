"""Photos that went wrong for users give the right heads, as `benchmarks/field_cases.py` measures them."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "field_cases.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("field_cases", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["field_cases"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["field_cases"]


@pytest.fixture
def bench(
    script: ModuleType,
    face: FaceReconstruction,
    fast_reconstructor: FaceReconstructor,
    tmp_path: Path,
) -> Any:
    return script.Bench(fast_reconstructor, face, tmp_path)


def check(rows: Iterator[Any], *, least: int) -> None:
    """Check that there are enough measurements and that all hold."""
    measured = list(rows)
    assert [row for row in measured if not row.ok] == []
    assert len(measured) >= least


def test_a_portrait_is_the_same_head_on_a_large_canvas(script: ModuleType, bench: Any) -> None:
    check(script.place(bench, canvases=script.CANVASES[:1]), least=5)


def test_portraits_in_one_photo_are_the_heads_alone(script: ModuleType, bench: Any) -> None:
    check(script.tiles(bench, count=6, portraits=[4]), least=6)


def test_a_focal_length_that_a_crop_has_kept_is_dropped(script: ModuleType, bench: Any) -> None:
    check(script.crops(bench, portraits=[1]), least=4)


def test_each_fault_of_a_photo_has_its_warning(script: ModuleType, bench: Any) -> None:
    check(script.warned(bench), least=5)


def test_measurements_beyond_their_limits_do_not_hold(script: ModuleType) -> None:
    row = script.Row
    assert row.at_most("", "", 0.1, 0.1).ok
    assert not row.at_most("", "", 0.11, 0.1).ok
    assert not row.at_most("", "", float("nan"), 0.1).ok
    assert not row.equal("", "", 3, 4).ok
    assert row.holding("", "", "no work", "work").ok
    assert not row.holding("", "", "no", "work").ok
