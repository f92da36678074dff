"""The flagship solves for the face of the dense landmarks; both learn through the solver's steps."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.networks.frozen import frozen_digests
from lifemask.systems.flagship import Flagship
from lifemask.systems.registry import build_system, load_system
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


def test_onnx_runtime_predicts_the_same(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("LIFEMASK_CACHE", str(tmp_path))
    slow, fast = load_system("flagship"), load_system("flagship", runtime="onnxruntime")
    crops = SyntheticFaces(SyntheticConfig(size=slow.crop_size, texture_size=64)).batch(3, 0, 3)

    # One crop, then three: an export serves any number.
    for photo in (crops.photo[:1], crops.photo):
        expected, found = slow(FramedFaces(photo)), fast(FramedFaces(photo))
        assert expected.landmarks is not None
        assert found.landmarks is not None
        torch.testing.assert_close(
            found.landmarks.points, expected.landmarks.points, atol=0.01, rtol=0
        )
        torch.testing.assert_close(
            found.coefficients.identity, expected.coefficients.identity, atol=2e-3, rtol=0
        )


def test_onnx_runtime_is_for_shipped_weights_on_the_cpu(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"weights that ship .* on the CPU"):
        load_system("flagship", weights=tmp_path / "weights.safetensors", runtime="onnxruntime")
    with pytest.raises(ValueError, match="on the CPU"):
        load_system("flagship", "cuda", runtime="onnxruntime")
