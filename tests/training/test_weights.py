"""Weights carry the licences of what they were trained on, also over a second training."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from training.toy import ToySystem, toy_parts, toy_recipe

from lifemask.networks.released import ReleasedWeights, write_weights
from lifemask.training.config import RunOptions, TrainingError
from lifemask.training.loop import train
from lifemask.training.weights import start_from

REPOSITORY = Path(__file__).resolve().parents[2]
RESEARCH = {"photos": {"kind": "photos", "tiers": ["open", "research"]}}


def trained(folder: Path, about_data: dict) -> Path:
    parts = replace(toy_parts(), about_data=about_data)
    train(toy_recipe(), parts, RunOptions(folder, device="cpu", workers=0, threads=1))
    return folder / "weights.safetensors"


def release_tool():
    spec = importlib.util.spec_from_file_location(
        "release_system", REPOSITORY / "tools" / "release_system.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_weights_that_start_from_research_photos_are_not_open_either(tmp_path: Path) -> None:
    first = trained(tmp_path / "first", RESEARCH)
    about = start_from(ToySystem(), first)
    assert about["tiers"] == ["open", "research"]
    second = trained(tmp_path / "second", {"one": {"tiers": []}, "start_from": about})
    data = json.loads(second.with_suffix(".json").read_text())["data"]
    assert release_tool().not_open(data) == ["research"]
    # And over a third training, too.
    assert start_from(ToySystem(), second)["tiers"] == ["open", "research"]


def test_open_weights_stay_open(tmp_path: Path) -> None:
    stores = {"fits": {"kind": "rerendered", "tiers": [], "stores": ["open-001.tar"]}}
    about = start_from(ToySystem(), trained(tmp_path, stores))
    assert (about["tiers"], about["stores"]) == ([], ["open-001.tar"])
    assert release_tool().not_open({"start_from": about}) == []


def test_weights_of_unknown_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(path, ReleasedWeights("toy", {}, ToySystem().released_state()))
    with pytest.raises(TrainingError, match=r"weights\.json is missing beside it"):
        start_from(ToySystem(), path)


def test_a_card_names_no_place_of_the_machine_that_trained() -> None:
    recipe = {"sources": {"bank": {"encoded": "/data/banks/encoded", "folder": "banks/stills"}}}
    expected = {"sources": {"bank": {"encoded": "encoded", "folder": "banks/stills"}}}
    assert release_tool().portable(recipe) == expected
    assert release_tool().portable([1, None, "/a/b", "c/d"]) == [1, None, "b", "c/d"]


def test_no_shipped_card_names_a_place_of_a_machine() -> None:
    for card in (REPOSITORY / "src" / "lifemask" / "assets").rglob("*.card.json"):
        assert '"/' not in card.read_text("utf-8"), card.name
