"""Every shipped file has a correct card with an allowed licence; the audit finds errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lifemask.morphable import assets
from lifemask.morphable.assets import (
    AssetError,
    audit,
    is_allowed,
    list_cards,
    load_asset,
    sha256_of,
    used_assets,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with one asset, `head/basis`, and its card."""
    (tmp_path / "head").mkdir()
    save_file({"mean": torch.arange(6.0).view(2, 3)}, tmp_path / "head" / "basis.safetensors")
    write_card(tmp_path)
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    return tmp_path


def write_card(folder: Path, **changes: Any) -> None:
    source = {"name": "s", "version": "1", "where": "PyPI", "sha256": "", "licence": "CC0-1.0"}
    card = {
        "name": "head/basis",
        "version": "1",
        "description": "A basis",
        "licence": "CC-BY-4.0",
        "attribution": "Somebody",
        "sources": [source],
        "sha256": sha256_of(folder / "head" / "basis.safetensors"),
        "built_by": "tools/build.py",
        "used_at": "run time",
    }
    entries = {key: value for key, value in (card | changes).items() if value is not None}
    (folder / "head" / "basis.card.json").write_text(json.dumps(entries))


def test_shipped_assets_pass_the_audit() -> None:
    assert audit() == []


def test_shipped_assets_stay_small() -> None:
    """The limits in MiB are 12 for the head, 25 for perception and 1 for samples."""
    megabytes: dict[str, float] = {}
    for card in list_cards():
        group = card.name.split("/")[0]
        megabytes[group] = megabytes.get(group, 0) + card.path.stat().st_size / 2**20
    assert megabytes["samples"] < 1
    assert megabytes["perception"] < 25
    assert megabytes["head"] < 12


def test_assets_load_by_name(folder: Path) -> None:
    assert load_asset("head/basis")["mean"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert assets.asset_path("head/basis") == folder / "head" / "basis.safetensors"
    assert [asset["name"] for asset in used_assets()] == ["head/basis"]
    assert assets.attribution().splitlines()[1:] == ["Somebody (CC-BY-4.0)"]


def test_changed_file_does_not_load(folder: Path) -> None:
    save_file({"mean": torch.ones(2, 3)}, folder / "head" / "basis.safetensors")
    with pytest.raises(AssetError, match="damaged or was changed"):
        load_asset("head/basis")


def test_unknown_asset_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(AssetError, match=r"no asset 'head/other'. Shipped assets: head/basis"):
        load_asset("head/other")
    (folder / "head" / "basis.card.json").unlink()
    with pytest.raises(AssetError, match="is missing"):
        load_asset("head/basis")


def test_audit_passes_a_good_folder(folder: Path) -> None:
    assert audit(folder) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"licence": "CC-BY-NC-4.0"}, "licence 'CC-BY-NC-4.0' is not allowed"),
        ({"licence": "CC0-1.0 AND GPL-3.0"}, "is not allowed"),
        ({"attribution": ""}, "requires an attribution"),
        ({"sources": []}, "names no source"),
        ({"sha256": "0" * 64}, "sha256 is not that of basis.safetensors"),
        ({"built_by": None}, "lacks the entry 'built_by'"),
        ({"name": None}, "lacks the entry 'name'"),
        ({"sources": "none"}, "is not a card"),
    ],
)
def test_audit_finds_what_is_wrong_with_a_card(
    folder: Path, changes: dict[str, Any], problem: str
) -> None:
    write_card(folder, **changes)
    assert len(audit(folder)) == 1
    assert problem in audit(folder)[0]


def test_audit_finds_files_without_card_and_cards_without_file(folder: Path) -> None:
    (folder / "stray.bin").touch()
    (folder / "head" / "basis.safetensors").rename(folder / "head" / "moved.safetensors")
    problems = audit(folder)
    assert any("stray.bin has no card" in problem for problem in problems)
    assert any("describes 0 files" in problem for problem in problems)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0", True),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0", False),
        ("GPL-3.0", False),
        ("", False),
    ],
)
def test_licence_expressions(licence: str, allowed: bool) -> None:
    assert is_allowed(licence) is allowed


def test_notice_repeats_every_attribution() -> None:
    """If this fails, run: .venv/bin/lifemask licenses --notice > NOTICE."""
    stored = (Path(__file__).resolve().parents[2] / "NOTICE").read_text("utf-8")
    assert stored == assets.notice()
