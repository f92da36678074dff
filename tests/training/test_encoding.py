"""Encoded banks hold exactly what the frozen layers see in varied crops; what does not fit is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lifemask.cli.exit_codes import DONE, FAILED
from lifemask.cli.main import main
from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.drawing import draw_bank
from lifemask.data.bank.encoded import read_encoded_plan
from lifemask.data.bank.faces import read_items
from lifemask.data.bank.plan import BankError, BankPlan, crop_config, part_path
from lifemask.data.bank.version import generator_version
from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import generator_for
from lifemask.data.synthetic import SyntheticConfig
from lifemask.systems.registry import build_system, find_recipe
from lifemask.training.builders import build_parts
from lifemask.training.config import BankSource, Recipe, TrainingError, Value
from lifemask.training.encoding import encode_bank
from lifemask.training.system import System
from lifemask.training.untrained import untrained_system

VARIED = Augmentation(occlusion=1.0)
CHANGES = ("system.options.crop_size=48", "system.options.input_size=128",
           "system.options.pretrained=false")  # fmt: skip


def recipe(**changes: object) -> Recipe:
    found = find_recipe("dense_landmarks")
    options = {"crop_size": 48, "input_size": 128, "pretrained": False}
    source = BankSource(1.0, folder="bank", held_out=0.3, augmentation=VARIED)
    return replace(
        found,
        system=replace(found.system, options=options),
        sources={"bank": replace(source, **changes)},
        batch_size=3,
        validation_images=2,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bank of two parts, and its encoded copies."""
    folder = tmp_path_factory.mktemp("data")
    config = crop_config(SyntheticConfig(samples=1, texture_size=64, dressed=0.0), 48, 1.25)
    plan = BankPlan("stills", 6, config, 3, generator_version(), part_size=3)
    assert draw_bank(folder / "bank", plan) == 2
    assert encode_bank(recipe(), build_system, folder, folder / "encoded", copies=2) == 4
    return folder


def batches(folder: Path, chosen: Recipe) -> tuple[FaceBatch, FaceBatch]:
    parts = build_parts(chosen, build_system, folder)
    (training,), (held_out,) = (m.sources.values() for m in (parts.mixture, parts.held_out))
    return training.batch(0, 8), held_out.batch(0, 2)


def test_the_features_are_those_of_the_stored_crops(data: Path) -> None:
    plan, system = (
        read_encoded_plan(data / "encoded"),
        untrained_system(recipe(), build_system).eval(),
    )
    crops = read_items(data / "encoded", plan, 2, range(3))
    # Part 2 is the second copy of the bank's first part.
    expected = augmented(
        read_items(data / "bank", plan.bank, 0, range(3)),
        VARIED, generator_for(0, "encoded", 2), side=48, size=48,
    )  # fmt: skip
    assert (crops.photo - expected.photo).abs().max().item() < 0.02
    assert crops.truth is not None
    assert expected.truth is not None
    torch.testing.assert_close(crops.truth.surface200, expected.truth.surface200)
    assert crops.features is not None
    seen = system.frozen_features(expected.photo)
    assert seen is not None
    for name in ("fine", "coarse", "last"):
        ours, theirs = getattr(crops.features, name).float(), getattr(seen, name)
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.01)
    with pytest.raises(ValueError, match="cannot be varied"):
        augmented(crops, VARIED, torch.Generator())


def test_a_training_reads_every_copy_and_holds_out_the_same_faces(data: Path) -> None:
    training, held_out = batches(data, recipe(encoded="encoded"))
    plain, plain_held_out = batches(data, recipe())
    for encoded, bank in ((training, plain), (held_out, plain_held_out)):
        assert encoded.features is not None
        assert encoded.photo.shape == bank.photo.shape
    # Four faces to train on, each in two copies.
    assert training.person.unique(return_counts=True)[1].tolist() == [2] * 4
    assert not set(training.person.tolist()) & set(held_out.person.tolist())
    assert set(held_out.person.tolist()) == set(plain_held_out.person.tolist())


def test_it_goes_on_where_it_stopped_and_grows(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoded"
    assert encode_bank(recipe(parts=(1,)), build_system, data, folder) == 1
    assert encode_bank(recipe(), build_system, data, folder, copies=2) == 3
    part_path(folder, 3).write_bytes(b"torn")
    assert encode_bank(recipe(), build_system, data, folder, copies=2) == 1
    for part in range(4):
        ours, theirs = (part_path(f, part).read_bytes() for f in (folder, data / "encoded"))
        assert ours == theirs
    with pytest.raises(BankError, match="can only grow"):
        encode_bank(recipe(), build_system, data, folder)


def test_what_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    other = Augmentation(occlusion=0.5)
    with pytest.raises(TrainingError, match=r"augmentation.occlusion is 1.0, wanted is 0.5"):
        batches(data, recipe(encoded="encoded", augmentation=other))
    with pytest.raises(TrainingError, match="There is no encoded bank"):
        batches(data, recipe(encoded="bank"))

    def changed(name: str, options: Mapping[str, Value]) -> System:
        system = build_system(name, options)
        with torch.no_grad():
            system.frozen_parameters()[0].add_(1.0)
        return system

    with pytest.raises(BankError, match="encoder is"):
        encode_bank(recipe(), changed, data, data / "encoded", copies=2)
    with pytest.raises(TrainingError, match="none of its sources is a bank"):
        encode_bank(find_recipe("direct_regression"), build_system, data, tmp_path)
    with pytest.raises(TrainingError, match=r"its banks are bank, hard\. Choose one with --source"):
        encode_bank(find_recipe("dense_landmarks"), build_system, data, tmp_path)
    with pytest.raises(TrainingError, match=r"from 'easy': its banks are bank\."):
        encode_bank(recipe(), build_system, data, tmp_path, source="easy")
    direct = replace(
        recipe(), system=replace(recipe().system, name="direct_regression", options={})
    )
    with pytest.raises(TrainingError, match="nothing to encode"):
        encode_bank(direct, build_system, data, tmp_path / "none")


def test_the_command_encodes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["encode", "dense_landmarks", str(tmp_path / "encoded"), *CHANGES,
                 "sources.bank.folder=bank", "--source", "bank", "--data", str(data), "--processes", "1"]  # fmt: skip
    assert main(arguments) == DONE
    assert "2 parts encoded" in capsys.readouterr().out
    assert main(arguments) == DONE
    assert "0 parts encoded" in capsys.readouterr().out
    assert main([*arguments, "--copies", "0"]) == FAILED
    assert "copies is 0" in capsys.readouterr().err
