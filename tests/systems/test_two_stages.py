"""A system that holds another one, frozen: it trains, is released without it and loads beside it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from systems import two_stages
from systems.two_stages import TwoStages
from training.toy import ToySystem, toy_parts, toy_recipe

from lifemask.networks.frozen import Frozen, frozen_digests, weights_digest
from lifemask.networks.released import read_weights
from lifemask.systems.registry import SYSTEMS, load_system
from lifemask.training.checkpoints import checkpoints
from lifemask.training.config import Recipe, RunOptions, SystemChoice, TrainingError
from lifemask.training.loop import train
from lifemask.training.system import FramedFaces
from lifemask.training.weights import start_from


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Add the toy's line to the registry."""
    SYSTEMS["two_stages"] = "systems.two_stages"
    yield
    del SYSTEMS["two_stages"]


def recipe() -> Recipe:
    return toy_recipe(name="two_stages", system=SystemChoice("two_stages"))


def options(folder: Path, **changes: object) -> RunOptions:
    values = {"device": "cpu", "workers": 0, "threads": 1, "checkpoint_steps": 4} | changes
    return RunOptions(folder, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_stages")
    train(recipe(), toy_parts(TwoStages()), options(folder, stop_at=7))
    train(recipe(), toy_parts(TwoStages()), options(folder, resume=True))
    return folder


def test_only_the_second_stage_learns_and_is_stored(trained: Path) -> None:
    system = TwoStages()
    first = ToySystem(seed=two_stages.FIRST_SEED).state_dict()
    train(recipe(), toy_parts(system), options(trained / "again"))
    assert not system.before.inner.training
    for name, value in system.before.inner.state_dict().items():
        assert torch.equal(value, first[name]), name
    for part in ("model", "average", "optimiser"):
        resumed, whole = (
            load_file(checkpoints(f / "checkpoints")[-1] / f"{part}.safetensors")
            for f in (trained, trained / "again")
        )
        assert not any("before" in name for name in resumed)
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_it_is_released_without_the_first_stage_and_loads_beside_it(trained: Path) -> None:
    path = trained / "weights.safetensors"
    stored = read_weights(path)
    assert not any("before" in name for name in stored.tensors)
    assert set(stored.frozen) == {"before"}
    loaded = load_system("two_stages", weights=path)
    fresh = TwoStages()
    start_from(fresh, path)
    photo = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    light = loaded(FramedFaces(photo)).light.coefficients
    assert torch.equal(light, fresh.eval()(FramedFaces(photo)).light.coefficients)
    alone = ToySystem(seed=two_stages.FIRST_SEED).eval()(FramedFaces(photo)).light.coefficients
    assert float((light - alone).detach().abs().max()) > 1e-3


def test_other_frozen_weights_are_refused(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_stages, "FIRST_SEED", 6)
    with pytest.raises(ValueError, match="trained beside other frozen weights"):
        load_system("two_stages", weights=trained / "weights.safetensors")
    with pytest.raises(TrainingError, match="trained beside other frozen weights"):
        start_from(TwoStages(), trained / "weights.safetensors")
    with pytest.raises(TrainingError, match="trained beside other frozen weights"):
        train(recipe(), toy_parts(TwoStages()), options(trained, resume=True))


def test_a_digest_covers_the_frozen_weights_inside_frozen_weights() -> None:
    class Third(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = Frozen(TwoStages())

    third = Third()
    before = frozen_digests(third), weights_digest(third.before.inner)
    with torch.no_grad():
        third.before.inner.before.inner.network[0].bias += 1
    assert frozen_digests(third) != before[0]
    assert weights_digest(third.before.inner) != before[1]
