"""The flagship solves for the face of the dense landmarks; both learn through the solver's steps."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.networks.frozen import frozen_digests
from lifemask.systems.flagship import Flagship
from lifemask.systems.registry import build_system
from lifemask.training.encoding import encoder_version
from lifemask.training.system import FramedFaces


@pytest.fixture(scope="module")
def system() -> Flagship:
    torch.manual_seed(0)
    built = build_system("flagship", {"crop_size": 64, "input_size": 128, "pretrained": False})
    assert isinstance(built, Flagship)
    return built


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    return SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1)).batch(0, 0, 3)


def test_it_keeps_the_points_and_the_look_of_the_dense_landmarks(
    system: Flagship, batch: FaceBatch
) -> None:
    faces = FramedFaces(batch.photo[None])
    with torch.no_grad():
        face, first = system(faces), system.network(faces)
    assert face.landmarks is not None
    assert first.landmarks is not None
    assert torch.equal(face.landmarks.points, first.landmarks.points)
    assert torch.equal(face.coefficients.albedo, first.coefficients.albedo)
    assert face.coefficients.identity.shape == first.coefficients.identity.shape
    assert face.coefficients.identity.isfinite().all()


def test_points_and_solver_learn_together(system: Flagship, batch: FaceBatch) -> None:
    frozen = frozen_digests(system)
    assert list(frozen) == ["network.maps"]
    first = {name: value.clone() for name, value in system.state_dict().items()}
    weights = system.phases["main"].weights
    optimiser = torch.optim.Adam(system.parameters(), 1e-3)
    totals: list[float] = []
    for _ in range(6):
        (losses,) = system.losses("main", [batch])
        assert set(losses) <= set(weights)
        assert all(value.shape == (3,) for value in losses.values())
        total = torch.stack([weights[name] * value.mean() for name, value in losses.items()]).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    assert frozen_digests(system) == frozen
    now = system.state_dict()
    for part in ("network.trunk", "network.refiner", "solver"):
        assert any(
            not torch.equal(now[name], value)
            for name, value in first.items()
            if name.startswith(part)
        ), part


def test_photos_without_truth_have_losses_of_landmarks(system: Flagship, batch: FaceBatch) -> None:
    (losses,) = system.losses("main", [replace(batch, truth=None)])
    assert {"points", "landmarks478", "landmarks68", "aflw21"} <= set(losses)
    assert "neutral" not in losses


def test_features_of_an_encoded_bank_take_the_place_of_the_photo(
    system: Flagship, batch: FaceBatch
) -> None:
    features = system.frozen_features(batch.photo)
    encoded = replace(batch, photo=torch.zeros_like(batch.photo), features=features)
    with torch.no_grad():
        (plain,), (read,) = (system.losses("main", [given]) for given in (batch, encoded))
    for name, value in plain.items():
        torch.testing.assert_close(read[name], value, msg=name)


def test_it_shares_encoded_banks_with_the_dense_landmarks() -> None:
    assert encoder_version(build_system("flagship")) == encoder_version(
        build_system("dense_landmarks")
    )
