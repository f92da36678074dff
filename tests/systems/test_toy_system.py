"""A system with feedback, a UV output, clips and a critic needs only its file and one line."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from systems.toy_system import ToySystem

from lifemask.evaluation.systems.registry import load_system as load_evaluated
from lifemask.io.images import read_photo
from lifemask.morphable.model import MorphableModel
from lifemask.networks.released import read_weights
from lifemask.systems.registry import SYSTEMS, build_system, find_recipe, load_system
from lifemask.training.builders import build_parts
from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import RunOptions
from lifemask.training.loop import TrainingParts, train
from lifemask.training.system import FramedFaces

TESTS = Path(__file__).resolve().parents[1]

_KILLED = """
import os, signal, sys
from pathlib import Path
from lifemask.systems.registry import SYSTEMS, build_system, find_recipe
from lifemask.training.builders import build_parts
from lifemask.training.config import RunOptions
from lifemask.training.loop import train

SYSTEMS["toy"] = "systems.toy_system"
recipe = find_recipe("toy")
options = RunOptions(Path(sys.argv[1]), device="cpu", workers=0, threads=1, checkpoint_steps=3)
train(recipe, build_parts(recipe, build_system, None), options,
      after_checkpoint=lambda path: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Add the toy's line to the registry."""
    SYSTEMS["toy"] = "systems.toy_system"
    yield
    del SYSTEMS["toy"]


def parts() -> TrainingParts:
    return build_parts(find_recipe("toy"), build_system, None)


def options(folder: Path) -> RunOptions:
    return RunOptions(folder, device="cpu", workers=0, threads=1, checkpoint_steps=3, log_steps=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    assert train(find_recipe("toy"), parts(), options(folder)).reason == "finished"
    return folder


def test_killed_it_resumes_exactly(trained: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr[-3000:]
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000003"]
    train(find_recipe("toy"), parts(), replace(options(tmp_path), resume=True))
    whole, resumed = (checkpoints(f / "checkpoints")[-1] for f in (trained, tmp_path))
    assert whole.name == resumed.name == "step-00000008"
    for part in ("model", "average", "optimiser"):
        ours, theirs = (load_file(path / f"{part}.safetensors") for path in (whole, resumed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), part


def test_the_critic_starts_late_and_learns_by_itself(trained: Path) -> None:
    first, last = (load_file(p / "model.safetensors") for p in _ends(trained))
    states = load_file(_ends(trained)[1] / "optimiser.safetensors")
    steps = {name: float(value) for name, value in states.items() if name.endswith(":step")}
    # A quarter of eight steps: the critic takes six.
    assert {v for n, v in steps.items() if n.startswith("critic/")} == {6.0}
    assert {v for n, v in steps.items() if n.startswith("network/")} == {8.0}
    assert not any("critic" in name for name in steps if name.startswith("network/"))
    assert not torch.equal(first["critic.weight"], last["critic.weight"])


def test_released_weights_leave_the_critic_out_and_predict(trained: Path) -> None:
    stored = read_weights(trained / "weights.safetensors")
    assert not any(name.startswith("critic") for name in stored.tensors)
    average = load_file(_ends(trained)[1] / "average.safetensors")
    assert set(stored.tensors) == set(average)
    system = load_system("toy", weights=trained / "weights.safetensors")
    photo = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    face = system(FramedFaces(photo))
    assert face.coefficients.identity.shape[:2] == (2, 3)
    assert torch.equal(face.coefficients.identity[:, 0], face.coefficients.identity[:, 2])
    assert face.albedo_map is not None
    assert face.albedo_map.values.shape == (2, 3, 3, 16, 16)


def test_feedback_changes_the_prediction(trained: Path) -> None:
    system = load_system("toy", weights=trained / "weights.safetensors")
    assert isinstance(system, ToySystem)
    photo = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first = system(FramedFaces(photo))
    second = system(FramedFaces(photo, previous=first))
    assert not torch.equal(first.coefficients.identity, second.coefficients.identity)


def test_it_is_evaluated_like_any_other(trained: Path, samples: Path) -> None:
    evaluated = load_evaluated(f"toy={trained / 'weights.safetensors'}", TESTS)
    pixels = read_photo(samples / "portrait_1.jpg").pixels
    prediction = evaluated.predict(pixels, crop=False, quality="fast")  # type: ignore[union-attr]
    assert prediction is not None
    height, width = pixels.shape[:2]
    assert prediction.normals.shape == (height, width, 3)
    assert prediction.albedo.shape == (height, width, 3)
    seen = prediction.albedo[prediction.mask]
    assert len(seen) > 0.02 * height * width
    # The albedo is the map that it predicted, of 16 texels a side, not the head model's: the whites
    # of the eyes are not in it.
    assert seen.max() < 0.5 < float(MorphableModel.from_pretrained().albedo.mean_log.max().exp())


def _ends(folder: Path) -> tuple[Path, Path]:
    found = checkpoints(folder / "checkpoints")
    return found[0], found[-1]
