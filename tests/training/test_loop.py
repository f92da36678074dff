"""The training loop resumes exactly, has one place for weights, and loses no run."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from training.toy import ToySystem, toy_parts, toy_phase, toy_recipe

from lifemask.io.files import OutputError
from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import RunOptions, Schedule, TrainingError
from lifemask.training.loop import train
from lifemask.training.steps import total_loss


def options(folder: Path, **changes: object) -> RunOptions:
    values = {"device": "cpu", "workers": 0, "threads": 1, "log_steps": 4, "checkpoint_steps": 4}
    return RunOptions(folder, **(values | changes))  # type: ignore[arg-type]


def log_lines(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def assert_same_checkpoint(one: Path, other: Path) -> None:
    for part in ("model", "average", "optimiser"):
        left, right = (load_file(path / f"{part}.safetensors") for path in (one, other))
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert torch.equal(value, right[name]), (part, name)


def test_total_is_the_sum_of_weighted_means_over_all_images() -> None:
    values = [
        {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([5.0, 5.0, 5.0])},
        {"a": torch.tensor([10.0])},
    ]
    total, means = total_loss(values, {"a": 2.0, "b": 0.5, "absent": 7.0})
    assert float(means["a"]) == 4.0  # (1 + 2 + 3 + 10) / 4: each image counts once
    assert float(total) == 2 * 4.0 + 0.5 * 5.0


def test_zero_weight_is_logged_but_does_not_count() -> None:
    total, means = total_loss([{"a": torch.ones(2), "b": torch.ones(2)}], {"a": 1.0, "b": 0.0})
    assert float(total) == 1.0
    assert set(means) == {"a", "b"}


def test_training_learns_and_writes_everything(tmp_path: Path) -> None:
    recipe = toy_recipe(schedule=Schedule(steps=60, warmup_steps=2))
    outcome = train(recipe, toy_parts(), options(tmp_path, validation_steps=20))
    assert (outcome.reason, outcome.step) == ("finished", 60)
    lines = log_lines(tmp_path, "train")
    assert lines[-1]["raw"]["colour"] < 0.3 * lines[0]["raw"]["colour"]
    last = lines[-1]
    assert last["weighted"]["size"] == pytest.approx(0.01 * last["raw"]["size"], rel=1e-4)
    assert last["total"] == pytest.approx(sum(last["weighted"].values()), rel=1e-4)
    assert last["raw"]["colour"] == pytest.approx(
        0.75 * last["raw"]["one/colour"] + 0.25 * last["raw"]["two/colour"], rel=1e-3
    )
    assert set(last["time_shares"]) == {"data", "forward", "backward", "update"}
    assert last["images_per_second"] > 0
    assert len(log_lines(tmp_path, "validation")) == 4
    assert (tmp_path / "panels" / "validation-00000060.png").exists()
    assert len(checkpoints(tmp_path / "checkpoints")) == 3
    weights = load_file(tmp_path / "weights.safetensors")
    ToySystem().load_state_dict(weights)
    assert json.loads((tmp_path / "weights.json").read_text())["step"] == 60


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_equals_uninterrupted(tmp_path: Path, workers: int) -> None:
    recipe = toy_recipe()
    train(recipe, toy_parts(), options(tmp_path / "whole"))
    train(recipe, toy_parts(), options(tmp_path / "parts", workers=workers, stop_at=5))
    # Another start of the weights: all must come from the checkpoint.
    resumed = toy_parts(ToySystem(seed=99))
    outcome = train(recipe, resumed, options(tmp_path / "parts", workers=workers, resume=True))
    assert outcome.step == 12
    assert_same_checkpoint(
        checkpoints(tmp_path / "whole" / "checkpoints")[-1],
        checkpoints(tmp_path / "parts" / "checkpoints")[-1],
    )


_TWO_PROCESSES = """
import sys
from pathlib import Path
import torch.distributed as dist
from training.toy import toy_parts, toy_recipe
from lifemask.training.config import RunOptions
from lifemask.training.loop import train

def gloo_threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count("pt_gloo_runloop")

before, destroy = [], dist.destroy_process_group

def count_and_destroy():
    before.append(gloo_threads())
    destroy()

dist.destroy_process_group = count_and_destroy
folder, stop, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
train(toy_recipe(), toy_parts(), RunOptions(
    folder, device="cpu", workers=0, threads=1, checkpoint_steps=100,
    stop_at=stop or None, resume=resume))
# Two threads for each group. Those of the gradients stay; those that carry the exchange may hold a
# tensor of Python's, which aborts the process where Python ends first: they must have ended.
assert before in ([4], [0]) and gloo_threads() == before[0] // 2, (before, gloo_threads())
"""


def test_two_processes_resume_exactly_and_differ_from_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO_PROCESSES)
    tests = Path(__file__).resolve().parent.parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent / "src")]),
        "OMP_NUM_THREADS": "1",
    }

    def torchrun(*arguments: str) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", str(script), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    torchrun(str(tmp_path / "whole"), "0", "new")
    torchrun(str(tmp_path / "parts"), "7", "new")
    torchrun(str(tmp_path / "parts"), "0", "resume")
    whole = checkpoints(tmp_path / "whole" / "checkpoints")[-1]
    assert whole.name == "step-00000012"
    assert_same_checkpoint(whole, checkpoints(tmp_path / "parts" / "checkpoints")[-1])
    # Twice the images per step: each process saw its own batches.
    train(toy_recipe(), toy_parts(), options(tmp_path / "alone"))
    alone = load_file(checkpoints(tmp_path / "alone" / "checkpoints")[-1] / "model.safetensors")
    assert not torch.equal(
        alone["network.5.weight"], load_file(whole / "model.safetensors")["network.5.weight"]
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"colour": 1.0, "size": 1.0, "colours": 1.0},
            "weighs colours, .* Its losses: colour, size",
        ),
        ({"colour": 1.0}, "no weight for size"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(toy_recipe(phases=toy_phase(weights=weights)), toy_parts(), options(tmp_path))
    assert not list(tmp_path.iterdir())


def test_checkpoint_of_another_recipe_is_refused_and_says_where_they_differ(tmp_path: Path) -> None:
    train(toy_recipe(), toy_parts(), options(tmp_path, stop_at=3))
    other = toy_recipe(seed=5, phases=toy_phase(weights={"colour": 2.0, "size": 0.01}))
    with pytest.raises(
        TrainingError,
        match=r"another recipe.*phases\.main\.weights\.colour: 2\.0, there 1\.0; seed: 5, there 0",
    ):
        train(other, toy_parts(), options(tmp_path, resume=True))


def test_an_unfinished_training_is_not_written_over(tmp_path: Path) -> None:
    train(toy_recipe(), toy_parts(), options(tmp_path, stop_at=3))
    with pytest.raises(TrainingError, match=r"at step 3\. Add --resume"):
        train(toy_recipe(), toy_parts(), options(tmp_path))


def test_words_for_people_do_not_make_another_recipe(tmp_path: Path) -> None:
    train(toy_recipe(), toy_parts(), options(tmp_path, stop_at=3))
    renamed = toy_recipe(description="Other words.")
    assert train(renamed, toy_parts(), options(tmp_path, resume=True)).step == 12


def test_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    train(toy_recipe(), toy_parts(), options(tmp_path, stop_at=3))
    (found,) = checkpoints(tmp_path / "checkpoints")
    data = (found / "model.safetensors").read_bytes()
    (found / "model.safetensors").write_bytes(data[:100])
    with pytest.raises(TrainingError, match=r"damaged .*Remove that folder"):
        train(toy_recipe(), toy_parts(), options(tmp_path, resume=True))


def test_a_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path: Path) -> None:
    parts = toy_parts(ToySystem(bad_from=1.7), brighter=0.2)
    with pytest.raises(TrainingError, match=r"loss of step (\d+) is not finite \(one/colour image"):
        train(toy_recipe(), parts, options(tmp_path))
    (saved,) = (tmp_path / "failures").iterdir()
    with safe_open(saved, "pt") as file:
        about = json.loads(file.metadata()["about"])
        assert float(file.get_tensor("one.photo").mean((-2, -1)).max()) > 1.7
        assert file.get_tensor("two.landmarks68").shape == (2, 68, 2)
    # The weights of the step before are kept.
    last = checkpoints(tmp_path / "checkpoints")[-1]
    assert int(last.name[5:]) == about["step"]
    assert all(torch.isfinite(v).all() for v in load_file(last / "model.safetensors").values())


def test_a_source_that_fails_does_not_lose_the_steps_before(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="batch 6 cannot be read"):
        train(toy_recipe(), toy_parts(fails_at=6), options(tmp_path))
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-00000006"


def test_full_disk_keeps_the_old_checkpoint_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lifemask.training import checkpoints as module

    write, calls = module.write_bytes, [0]

    def full_at_first(path: Path, data: bytes) -> None:
        calls[0] += 1
        if 3 < calls[0] <= 5:
            raise OutputError(f"Cannot write {str(path)!r}: the disk is full; free some space.")
        write(path, data)

    monkeypatch.setattr(module, "write_bytes", full_at_first)
    with caplog.at_level(logging.WARNING):
        outcome = train(toy_recipe(), toy_parts(), options(tmp_path))
    assert outcome.reason == "finished"
    assert "No checkpoint at step 8: Cannot write" in caplog.text
    assert "the disk is full" in caplog.text
    names = [path.name for path in checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-00000004", "step-00000012"]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_full_disk_at_the_end_is_an_error_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy_recipe(), toy_parts(), options(tmp_path, stop_at=3))
    from lifemask.training import checkpoints as module

    def full(path: Path, data: bytes) -> None:
        raise OutputError(f"Cannot write {str(path)!r}: the disk is full; free some space.")

    monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        train(toy_recipe(), toy_parts(), options(tmp_path, resume=True))
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000003"]


def test_a_full_disk_under_the_log_does_not_stop_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with caplog.at_level(logging.WARNING):
        assert train(toy_recipe(), toy_parts(), options(tmp_path)).reason == "finished"
    assert caplog.text.count("The log has gaps") == 1


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_writes_a_checkpoint_and_ends(
    tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    before = signal.getsignal(number)
    timer = threading.Timer(0.5, lambda: signal.raise_signal(number))
    recipe = toy_recipe(schedule=Schedule(steps=None, minutes=3.0))
    timer.start()
    outcome = train(recipe, toy_parts(), options(tmp_path, checkpoint_steps=10**9))
    assert outcome.reason == reason
    (found,) = checkpoints(tmp_path / "checkpoints")
    assert int(found.name[5:]) == outcome.step
    assert not (tmp_path / "weights.safetensors").exists()
    assert signal.getsignal(number) == before


def test_minutes_end_training_with_the_learning_rate_at_its_end(tmp_path: Path) -> None:
    recipe = toy_recipe(schedule=Schedule(steps=None, minutes=0.03, warmup_steps=2))
    outcome = train(recipe, toy_parts(), options(tmp_path, log_steps=1))
    assert outcome.reason == "finished"
    assert 1.5 < outcome.seconds < 10
    rates = [line["learning_rate"] for line in log_lines(tmp_path, "train")]
    assert rates[-1] < 0.06 * max(rates)


def test_a_schedule_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no end"):
        train(toy_recipe(schedule=Schedule(steps=None)), toy_parts(), options(tmp_path))


def test_factors_change_learning_rates_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    optimiser = toy_phase()["main"].optimiser
    frozen = replace(optimiser, learning_rate_factors={"network.0": 0.0}, weight_decay=0.0)
    system = ToySystem()
    before = {name: value.clone() for name, value in system.named_parameters()}
    recipe = toy_recipe(phases=toy_phase(optimiser=frozen))
    train(recipe, toy_parts(system), options(tmp_path / "a"))
    after = dict(system.named_parameters())
    assert torch.equal(before["network.0.weight"], after["network.0.weight"])
    assert not torch.equal(before["network.5.weight"], after["network.5.weight"])
    wrong = replace(optimiser, learning_rate_factors={"backbone": 0.1})
    recipe = toy_recipe(phases=toy_phase(optimiser=wrong))
    with pytest.raises(TrainingError, match=r"backbone.*They start with network, unused"):
        train(recipe, toy_parts(), options(tmp_path / "b"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learns": ("backbone",)}, r"start with 'backbone', but no parameter starts so"),
        ({"learns": ("network",)}, r"No phase changes unused\.weight, unused\.bias"),
        ({"start": 0.5, "end": 0.5}, r"lasts from 0\.5 to 0\.5"),
    ],
)
def test_phases_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(toy_recipe(phases=toy_phase(**changes)), toy_parts(), options(tmp_path))


def test_a_training_without_any_phase_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No phase takes part at 50%"):
        train(toy_recipe(phases=toy_phase(end=0.5)), toy_parts(), options(tmp_path))


def test_another_list_of_phases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has the phases second; toy has main"):
        train(toy_recipe(phases={"second": toy_phase()["main"]}), toy_parts(), options(tmp_path))
