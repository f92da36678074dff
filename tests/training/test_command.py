"""`lifemask train` distinguishes wrong usage from failure, and every recipe passes its smoke run."""

import io
import json
import shutil
import tarfile
from functools import cache
from pathlib import Path

import pytest
import torch

from lifemask.cli.exit_codes import DONE, FAILED, USAGE
from lifemask.cli.main import main
from lifemask.data.bank.drawing import draw_bank
from lifemask.data.bank.plan import BankPlan, crop_config
from lifemask.data.bank.version import generator_version
from lifemask.data.stored_fits import StoredFit, write_fits
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.assets import read_card
from lifemask.systems.registry import recipe_names


@pytest.fixture
def data(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a shard of open portraits; observations are written beside it."""
    monkeypatch.setenv("LIFEMASK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "fits").mkdir()
    with tarfile.open(folder / "train" / "open-000.tar", "w") as archive:
        for number in range(1, 9):
            about = {"identity": str(number), "licence_tier": "open", "face_box_xyxy": [0, 0, 1, 1]}
            photo = (samples / f"portrait_{number}.jpg").read_bytes()
            for name, content in (("jpg", photo), ("json", json.dumps(about).encode())):
                member = tarfile.TarInfo(f"p{number}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    write_fits(folder / "fits" / "open-000.tar", [drawn_fit()], head=read_card("head/head").sha256)
    config = crop_config(SyntheticConfig(texture_size=32, samples=1), side=64, margin=1.25)
    for kind, count, frames in (("stills", 16, 1), ("clips", 4, 2)):
        plan = BankPlan(kind, count, config, 0, generator_version(), frames=frames, part_size=count)
        draw_bank(folder / "banks" / kind, plan)
    shutil.copytree(folder / "banks" / "stills", folder / "banks" / "hard")
    near = crop_config(config, side=96, margin=0.67)
    plan = BankPlan("stills", 8, near, 0, generator_version(), part_size=8, pixel_maps=True)
    draw_bank(folder / "banks" / "near", plan)
    skins = crop_config(config, side=96, margin=0.67)
    plan = BankPlan("stills", 8, skins, 0, generator_version(), part_size=8, maps=True)
    draw_bank(folder / "banks" / "skins", plan)
    return folder


@cache
def drawn_fit() -> StoredFit:
    """Return a drawn face, stored as if it were a fitted photo."""
    faces = SyntheticFaces(SyntheticConfig(size=64, texture_size=64, samples=1))
    batch = map_tensors(lambda value: value[0], faces.batch(5, 0, 1))
    truth = batch.truth
    assert truth is not None
    return StoredFit("somebody", batch.photo, torch.zeros(64, 64), truth.face)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_proves_itself(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", name, "--smoke", "--data", str(data), "--device", "cpu"])
    assert code == DONE, capsys.readouterr().err
    assert "a resume that changes nothing" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_no_recipe_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == DONE
    out = capsys.readouterr().out
    assert all(f"{name}  " in out for name in recipe_names())


def test_show_prints_what_can_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "direct_regression", "--show", "batch_size=3", "--minutes", "2"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert "batch_size=3" in lines
    assert "schedule.minutes=2.0" in lines
    assert "schedule.steps=none" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["direct_regresion"], "Unknown recipe 'direct_regresion'. Known: coarse_fine"),
        (
            ["direct_regression", "weights.shap=1"],
            "There is no 'shap' in phases.main.weights. Known:",
        ),
        (["direct_regression", "batch_size=x"], "a whole number is allowed"),
    ],
)
def test_wrong_names_and_keys_are_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["system.options.crop=3"], "has no option crop"),
        (["sources.synthetic.options.hats=1"], "Synthetic faces have no option hats. They have:"),
        (["batch_size=1"], "leaves nothing for photos"),
        (["sources.photos.shards=train/closed-*.tar"], "Source 'photos': There is no"),
        (["start_from=nothing.safetensors"], "Cannot start from the weights"),
        (["sources.synthetic.share=0", "sources.photos.share=0"], "not all of them 0"),
    ],
)
def test_what_only_building_finds_out_stops_before_training(
    changes: list[str], message: str, data: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "run"
    arguments = ["train", "direct_regression_photos", *changes, "--data", str(data)]
    assert main([*arguments, "--output", str(output), "--workers", "0"]) == FAILED
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_an_unknown_device_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "direct_regression", "--output", str(tmp_path / "run")]
    assert main([*arguments, "--device", "abacus"]) == FAILED
    assert "There is no device 'abacus'" in capsys.readouterr().err
