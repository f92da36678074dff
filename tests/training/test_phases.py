"""Several phases in one step: own optimisers, one exchange of gradients, nothing half finished."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training.toy import ToySystem, TwoPhaseSystem, toy_parts, toy_recipe, two_phase_recipe

from lifemask.training import loop
from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import RunOptions, TrainingError
from lifemask.training.loop import train

TESTS = Path(__file__).resolve().parents[1]


def options(folder: Path, **changes: object) -> RunOptions:
    values = {"device": "cpu", "workers": 0, "threads": 1, "checkpoint_steps": 2} | changes
    return RunOptions(folder, **values)  # type: ignore[arg-type]


def newest(folder: Path) -> Path:
    return checkpoints(folder / "checkpoints")[-1]


def assert_same(one: Path, other: Path) -> None:
    for part in ("model", "average", "optimiser"):
        left, right = (load_file(path / f"{part}.safetensors") for path in (one, other))
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[name]) for name, value in left.items()), part


@pytest.mark.parametrize("stop", [2, 7])
def test_it_resumes_exactly_before_and_after_a_phase_starts(tmp_path: Path, stop: int) -> None:
    recipe = two_phase_recipe()
    train(recipe, toy_parts(TwoPhaseSystem()), options(tmp_path / "whole"))
    train(recipe, toy_parts(TwoPhaseSystem()), options(tmp_path / "parts", stop_at=stop))
    resumed = toy_parts(TwoPhaseSystem(seed=9))
    train(recipe, resumed, options(tmp_path / "parts", resume=True))
    assert_same(newest(tmp_path / "whole"), newest(tmp_path / "parts"))


def test_a_phase_that_fails_after_another_has_moved_leaves_the_checkpoint_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The step is half finished, so its weights are not those of any step."""
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(TrainingError, match=r"loss of step 3 is not finite"),
    ):
        train(two_phase_recipe(), toy_parts(TwoPhaseSystem(critic_fails=True)), options(tmp_path))
    assert newest(tmp_path).name == "step-00000002"
    assert "A phase of step 3 had changed weights before another one failed" in caplog.text
    # A run without the fault goes on from there as if nothing had happened.
    train(two_phase_recipe(), toy_parts(TwoPhaseSystem()), options(tmp_path, resume=True))
    train(two_phase_recipe(), toy_parts(TwoPhaseSystem()), options(tmp_path / "whole"))
    assert_same(newest(tmp_path), newest(tmp_path / "whole"))


def test_a_step_that_fails_does_not_leave_its_statistics_in_batch_norms(tmp_path: Path) -> None:
    recipe = toy_recipe()
    parts = toy_parts(ToySystem(bad_from=1.0), brighter=0.2)
    with pytest.raises(TrainingError, match="not finite"):
        train(recipe, parts, options(tmp_path / "bad"))
    failed = newest(tmp_path / "bad")
    step = int(failed.name[5:])
    assert step > 0
    train(recipe, toy_parts(brighter=0.2), options(tmp_path / "good", stop_at=step))
    assert_same(failed, newest(tmp_path / "good"))


def test_each_weight_is_averaged_as_its_phase_says(tmp_path: Path) -> None:
    train(two_phase_recipe(), toy_parts(TwoPhaseSystem(released_critic=True)), options(tmp_path))
    model, average = (
        load_file(newest(tmp_path) / f"{p}.safetensors") for p in ("model", "average")
    )
    # The critic's phase keeps nothing of the average.
    assert torch.equal(model["critic.weight"], average["critic.weight"])
    assert not torch.equal(model["network.0.weight"], average["network.0.weight"])


def test_after_training_all_parameters_may_learn_again(tmp_path: Path) -> None:
    system = TwoPhaseSystem()
    train(two_phase_recipe(), toy_parts(system), options(tmp_path))
    assert all(parameter.requires_grad for parameter in system.parameters())


_TWO_PROCESSES = """
import sys
from pathlib import Path
from training.toy import TwoPhaseSystem, toy_parts, two_phase_recipe
from lifemask.training.config import RunOptions
from lifemask.training.loop import train

train(two_phase_recipe(), toy_parts(TwoPhaseSystem()), RunOptions(
    Path(sys.argv[1]), device="cpu", workers=0, threads=1, checkpoint_steps=100))
"""


def test_two_processes_train_two_phases(tmp_path: Path) -> None:
    """A loss of weight 0 reaches parameters that no other loss reaches; nobody waits for them."""
    script = tmp_path / "two.py"
    script.write_text(_TWO_PROCESSES)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script), str(tmp_path)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert newest(tmp_path).name == "step-00000012"
    steps = {
        name: float(value)
        for name, value in load_file(newest(tmp_path) / "optimiser.safetensors").items()
        if name.endswith(":step")
    }
    assert {value for name, value in steps.items() if name.startswith("critic/")} == {9.0}
    assert not any("unused" in name for name in steps)


def test_one_phase_that_overflows_in_float16_is_skipped_and_the_other_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gradient scale serves all optimisers: it falls, and only the overflowing one waits."""
    monkeypatch.setattr(loop, "network_precision", lambda *_: torch.float16)

    class Overflows(TwoPhaseSystem):
        def losses(self, phase: str, batches: object) -> list[dict[str, Tensor]]:
            found = super().losses(phase, batches)  # type: ignore[arg-type]
            if phase == "critic":
                # Its gradient is finite without the scale of 65536 and infinite with it.
                found = [{k: v.float() * 1e36 for k, v in one.items()} for one in found]
            return found

    recipe = two_phase_recipe()
    late = replace(recipe.phases["critic"], start=0.0)
    recipe = replace(recipe, phases={**recipe.phases, "critic": late})
    before = {n: p.detach().clone() for n, p in Overflows().named_parameters()}
    train(recipe, toy_parts(Overflows()), options(tmp_path, stop_at=2))
    after = load_file(newest(tmp_path) / "model.safetensors")
    assert torch.equal(after["critic.weight"], before["critic.weight"])
    assert not torch.equal(after["network.5.weight"], before["network.5.weight"])
    state = json.loads((newest(tmp_path) / "state.json").read_text())
    assert state["progress"]["scaler"]["scale"] == 65536 / 4
    # The scale is resumed.
    train(recipe, toy_parts(Overflows()), options(tmp_path, resume=True, stop_at=3))
    state = json.loads((newest(tmp_path) / "state.json").read_text())
    assert state["progress"]["scaler"]["scale"] == 65536 / 8


def test_networks_with_several_outputs_return_float32() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
            return {"maps": [self.layer(x), self.layer(x).argmax(-1)]}

    system = ToySystem()
    system.precision = torch.bfloat16
    found = system.run_network(Several(), torch.ones(2, 4))
    assert [t.dtype for t in found["maps"]] == [torch.float32, torch.int64]
