"""The key of finished predictions changes with their code and data, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from lifemask.evaluation.fingerprint import (
    PACKAGE,
    asset_folders,
    code_fingerprint,
    reached_modules,
)

LANDMARKS = "lifemask.evaluation.systems.landmarks"
FIT = "lifemask.evaluation.systems.fit"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package's own source, and small files in place of its assets."""
    copy = tmp_path / "lifemask"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    for folder in ("head", "perception", "samples"):
        (copy / "assets" / folder).mkdir(parents=True)
        (copy / "assets" / folder / "data.safetensors").write_bytes(folder.encode())
    return copy


def add_function(path: Path) -> None:
    path.write_text(path.read_text("utf-8") + "\n\ndef added() -> None: ...\n", "utf-8")


def test_the_key_changes_with_a_module_that_is_reached_only_indirectly(package: Path) -> None:
    direct = (package / "evaluation/systems/landmarks.py").read_text("utf-8")
    assert "lifemask.perception.yunet" not in direct
    before = code_fingerprint(LANDMARKS, package=package)
    add_function(package / "perception/yunet.py")
    assert code_fingerprint(LANDMARKS, package=package) != before


def test_the_key_stays_when_other_modules_and_assets_change(package: Path) -> None:
    before = code_fingerprint(LANDMARKS, package=package)
    add_function(package / "training/loop.py")
    (package / "assets/samples/data.safetensors").write_bytes(b"another photo")
    assert code_fingerprint(LANDMARKS, package=package) == before


def test_the_key_changes_with_an_asset(package: Path) -> None:
    before = code_fingerprint(LANDMARKS, package=package)
    (package / "assets/perception/data.safetensors").write_bytes(b"other weights")
    assert code_fingerprint(LANDMARKS, package=package) != before


def test_modules_named_by_strings_are_reached() -> None:
    fit = reached_modules(FIT)
    assert "lifemask.rendering._backends.numba" in fit
    assert "lifemask.systems.direct_regression" in reached_modules("lifemask.systems.registry")
    assert "lifemask.evaluation.benchmarks.yaleb" in reached_modules("lifemask.evaluation.run")


def test_all_kinds_of_import_are_reached_and_lazy_names_only_where_asked_for(
    tmp_path: Path,
) -> None:
    files = {
        "__init__": (
            "HOMES = {'A': 'small.a', 'B': 'small.b'}\ndef __getattr__(name):\n    return HOMES[name]"
        ),
        "a": "def f():\n    import small.inner",
        "b": "",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .d import D",
        "d": "",
        "inner": "from . import c",
        "start": "from small import A",
        "attribute": "import small\nprint(small.B)",
    }
    package = tmp_path / "small"
    package.mkdir()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    reached = {f"small.{name}" for name in ("start", "a", "inner", "c", "d")}
    assert set(reached_modules("small.start", package)) == reached | {"small"}
    assert set(reached_modules("small.attribute", package)) == {
        "small.attribute",
        "small.b",
        "small",
    }


def test_assets_are_found_where_code_names_their_folder() -> None:
    assert asset_folders(reached_modules(LANDMARKS)) >= {"perception"}
    assert asset_folders(reached_modules(FIT)) >= {"head", "perception"}
    assert asset_folders(reached_modules("lifemask.networks.released")) >= {"systems"}
    assert asset_folders(reached_modules("lifemask.data.wearables.wardrobe")) >= {"wearables"}
    assert "samples" not in asset_folders(reached_modules("lifemask.evaluation.run"))


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no module"):
        code_fingerprint("lifemask.nothing")
