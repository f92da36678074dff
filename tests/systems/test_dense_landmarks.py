"""The dense landmark system predicts the framed mean face at first, and learns points and face."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.systems.dense_landmarks import DenseLandmarks
from lifemask.systems.registry import build_system, load_system
from lifemask.training.system import FramedFaces


@pytest.fixture(scope="module")
def system() -> DenseLandmarks:
    torch.manual_seed(0)
    built = build_system(
        "dense_landmarks", {"pretrained": False, "crop_size": 64, "input_size": 128}
    )
    assert isinstance(built, DenseLandmarks)
    return built


def test_an_untrained_system_predicts_the_points_of_the_framed_mean_face(system: DenseLandmarks):
    face = system(FramedFaces(torch.zeros(2, 3, 64, 64)))
    assert face.landmarks is not None
    assert face.landmarks.visible is not None
    assert face.landmarks.points.shape == (2, 678, 2)
    model = system.model
    vertices = model.vertices(face.coefficients)
    for embedding, rows in ((model.dense478, slice(478)), (model.surface200, slice(478, 678))):
        assert embedding is not None
        seen = face.camera.project(embedding.points(vertices, model.triangles))[..., :2]
        # Lids of the drawn mean face move a little outside of its eyeballs.
        distance = (seen - face.landmarks.points[:, rows]).norm(dim=-1)
        assert distance.max().item() < 0.5


def test_all_losses_fall_on_one_batch(system: DenseLandmarks):
    faces = SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1))
    batch = faces.batch(0, 0, 3)
    torch.manual_seed(0)
    weights = system.phases["main"].weights
    learning = [p for p in system.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, 3e-3)
    totals: list[float] = []
    for _ in range(16):
        (losses,) = system.losses("main", [batch])
        assert set(losses) <= set(weights)
        assert all(value.shape == (3,) for value in losses.values())
        total = torch.stack([weights[name] * value.mean() for name, value in losses.items()]).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.75 * totals[0]
    learned = [n for n, p in system.named_parameters() if p.requires_grad and p.grad is None]
    assert not learned


def test_it_starts_from_the_direct_regressor():
    system, known = build_system("dense_landmarks"), load_system("direct_regression")
    assert isinstance(system, DenseLandmarks)
    photo = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(photo, (192, 192), mode="bilinear")
    face, expected = system(FramedFaces(images)), known(FramedFaces(photo))
    away = face.coefficients.expression - expected.coefficients.expression
    assert away.abs().max().item() < 0.1
    for name, value in known.backbone.state_dict().items():
        assert torch.equal(system.maps.inner.state_dict()[name], value), name


def test_features_of_an_encoded_bank_take_the_place_of_the_photo(system: DenseLandmarks):
    faces = SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1))
    batch = faces.batch(0, 0, 2)
    encoded = replace(
        batch, photo=torch.zeros_like(batch.photo), features=system.frozen_features(batch.photo)
    )
    system.eval()
    (plain,), (read,) = (system.losses("main", [given]) for given in (batch, encoded))
    system.train()
    for name, value in plain.items():
        torch.testing.assert_close(read[name], value, msg=name)


def test_losses_are_finite_and_float32_where_networks_run_in_bfloat16(system: DenseLandmarks):
    faces = SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1))
    batch = faces.batch(0, 0, 2)
    system.precision = torch.bfloat16
    try:
        (losses,) = system.losses("main", [batch])
    finally:
        system.precision = None
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(torch.isfinite(value).all() for value in losses.values())
