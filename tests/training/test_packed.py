"""The output of a packed training is small, complete, and enough to continue."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors
import safetensors.torch
import torch
from training.toy import ToySystem, toy_parts, toy_recipe

from lifemask.networks.released import read_weights
from lifemask.training import packed
from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import RunOptions, TrainingError
from lifemask.training.loop import train

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packed, "PART_BYTES", 20_000)
    folder = tmp_path / "back"
    recipe = toy_recipe()
    options = RunOptions(tmp_path / "lent", device="cpu", workers=0, threads=1, stop_at=5)
    train(
        recipe, toy_parts(), options,
        after_checkpoint=lambda path: packed.bring_back(path, recipe, folder),
    )  # fmt: skip
    return folder


def test_training_goes_on_from_what_came_back(back: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    path = packed.put_back(back, here / "checkpoints")
    original = tmp_path / "lent" / "checkpoints" / "step-00000005"
    for file in original.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()
    options = RunOptions(here, device="cpu", workers=0, threads=1, resume=True)
    assert train(toy_recipe(), toy_parts(), options).step == 12


def test_what_comes_back_is_cut_small(back: Path) -> None:
    parts = sorted(back.glob("*.part"))
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) <= 20_000
    released = read_weights(back / "weights.safetensors")
    assert released.system == "toy"
    kinds = {tensor.dtype for tensor in released.tensors.values()}
    assert kinds == {torch.float16, torch.int64}
    assert set(released.tensors) == set(ToySystem().state_dict())


@pytest.mark.parametrize("fault", ["missing", "damaged", "none"])
def test_parts_that_are_missing_or_damaged_are_named(
    back: Path, tmp_path: Path, fault: str
) -> None:
    part = sorted(back.glob("*.part"))[1]
    if fault == "missing":
        part.unlink()
        message = "does not hold a checkpoint that came back"
    elif fault == "damaged":
        part.write_bytes(part.read_bytes()[:-1])
        message = f"{part.name} is damaged. Copy it again"
    else:
        (back / "state.json").unlink()
        message = r"It needs state\.json and"
    with pytest.raises(TrainingError, match=message):
        packed.put_back(back, tmp_path / "checkpoints")


def test_only_the_newest_checkpoint_comes_back(tmp_path: Path) -> None:
    recipe, folder = toy_recipe(), tmp_path / "back"
    options = RunOptions(
        tmp_path / "lent", device="cpu", workers=0, threads=1, checkpoint_steps=4, keep=9
    )
    train(
        recipe, toy_parts(), options,
        after_checkpoint=lambda path: packed.bring_back(path, recipe, folder),
    )  # fmt: skip
    assert len(checkpoints(tmp_path / "lent" / "checkpoints")) == 3
    assert {path.name[:13] for path in folder.glob("*.part")} == {"step-00000012"}


def _plain() -> ModuleType:
    path = REPOSITORY / "tools" / "bare_machine" / "safetensors" / "plain.py"
    spec = importlib.util.spec_from_file_location("plain_safetensors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_plain_safetensors_agrees_with_the_package(tmp_path: Path) -> None:
    plain = _plain()
    tensors = {
        "a": torch.randn(3, 5), "b": torch.arange(7), "c": torch.tensor([True, False]),
        "half": torch.randn(2, 2).half(), "empty": torch.empty(0, 3), "scalar": torch.tensor(2.5),
        "u": torch.tensor([1, 65535], dtype=torch.uint16),
    }  # fmt: skip
    path = tmp_path / "x.safetensors"
    path.write_bytes(plain.serialize(tensors, {"about": "words"}))
    theirs = safetensors.torch.load_file(path)
    path2 = tmp_path / "y.safetensors"
    safetensors.torch.save_file(tensors, path2, {"about": "words"})
    ours = plain.deserialize(path2.read_bytes())
    assert theirs.keys() == ours.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(theirs[name], value)
        assert torch.equal(ours[name], value)
    for opener in (safetensors.safe_open, plain.safe_open):
        with opener(path, "pt") as file:
            assert file.metadata() == {"about": "words"}
            assert torch.equal(file.get_tensor("a"), tensors["a"])
    with pytest.raises(plain.SafetensorError, match="cut off"):
        plain.deserialize(path.read_bytes()[:-1])
