"""The second stage for skin colour: it learns from drawn faces, and its two maps explain the photo."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.systems.registry import build_system
from lifemask.systems.rerenderable_albedo import RerenderableAlbedo
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces

TEXELS = 64


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    config = SyntheticConfig(size=96, texture_size=128, samples=1, uniform_yaw=0.1, degradations=0)
    return SyntheticFaces(config).batch(0, 0, 2)


@pytest.fixture
def system(batch: FaceBatch, monkeypatch: pytest.MonkeyPatch) -> RerenderableAlbedo:
    torch.manual_seed(0)
    options = {"crop_size": 96, "texels": TEXELS, "levels": 4, "width": 4}
    built = build_system("rerenderable_albedo", options)
    assert isinstance(built, RerenderableAlbedo)
    assert batch.truth is not None
    smooth = replace(batch.truth.face, albedo_map=None, displacement_map=None, depth=None)
    monkeypatch.setattr(RerenderableAlbedo, "faces_to_refine", lambda _self, _batch: smooth)
    return built


def test_it_learns(system: RerenderableAlbedo, batch: FaceBatch) -> None:
    weights = system.phases["main"].weights
    optimiser = torch.optim.AdamW(system.parameters(), 5e-3)
    totals: list[float] = []
    for _ in range(15):
        (losses,) = system.losses("main", [batch])
        assert set(losses) == set(weights)
        assert all(value.shape == (2,) for value in losses.values())
        total = torch.stack([weights[name] * value.mean() for name, value in losses.items()]).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]
    assert all(parameter.grad is not None for parameter in system.parameters())


def test_photos_without_truth_have_the_losses_that_need_none(
    system: RerenderableAlbedo, batch: FaceBatch
) -> None:
    (losses,) = system.losses("main", [replace(batch, truth=None)])
    assert set(system.phases["main"].weights) - set(losses) == {"pattern", "tone"}


def predicted(system: RerenderableAlbedo, batch: FaceBatch) -> ExplainedFace:
    system.eval()
    with torch.no_grad():
        (face,) = predict_batches(system, [batch])
    return face


def test_albedo_times_light_is_the_photo_where_it_is_seen(
    system: RerenderableAlbedo, batch: FaceBatch
) -> None:
    face = predicted(system, batch)
    assert face.albedo_map is not None
    assert face.light_map is not None
    assert face.albedo_map.values.shape == (2, 3, TEXELS, TEXELS)
    smooth = system.faces_to_refine(batch)
    seen = system._unwrapped(batch.photo, batch.skin, smooth)
    explained = (face.albedo_map.values * face.light_map.values).log()
    distance = (explained - seen.log_photo).abs().mean(1)
    shown = face.light_map.coverage > 0.5
    assert shown.float().mean() > 0.1
    # An untrained network leaves what the mean albedo and nine harmonics do not explain.
    assert distance[shown].mean() < 0.25


def test_a_brighter_photo_has_the_same_skin_and_more_light(
    system: RerenderableAlbedo, batch: FaceBatch
) -> None:
    face = predicted(system, batch)
    brighter = predicted(system, replace(batch, photo=batch.photo * 1.3))
    assert face.albedo_map is not None
    assert brighter.albedo_map is not None
    skin = face.albedo_map.coverage.unsqueeze(1).expand_as(face.albedo_map.values) > 0.5
    ratio = (brighter.albedo_map.values / face.albedo_map.values)[skin]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.03, atol=0)
    before, after = face.light.coefficients[:, 0], brighter.light.coefficients[:, 0]
    torch.testing.assert_close(after / before, torch.full_like(after, 1.3), rtol=0.05, atol=0)


def test_the_tone_is_that_of_the_given_face(system: RerenderableAlbedo, batch: FaceBatch) -> None:
    given = system.faces_to_refine(batch)
    lighter = given.coefficients.albedo.clone()
    assert system.model.albedo is not None
    lighter[:, system.model.albedo.mode_names.index("melanin")] -= 1
    system.eval()
    with torch.no_grad():
        first, second = (
            system(
                FramedFaces(
                    batch.photo,
                    previous=replace(given, coefficients=replace(given.coefficients, albedo=own)),
                    skin=batch.skin,
                )
            )
            for own in (given.coefficients.albedo, lighter)
        )
    assert first.albedo_map is not None
    assert second.albedo_map is not None
    skin = first.albedo_map.coverage.unsqueeze(1) > 0.5
    changed = (second.albedo_map.values / first.albedo_map.values)[skin.expand(-1, 3, -1, -1)]
    assert changed.mean() > 1.1
    # Albedo times light stays the photo.
    assert first.light_map is not None
    assert second.light_map is not None
    shown = skin.expand(-1, 3, -1, -1) & (first.light_map.coverage.unsqueeze(1) > 0.5)
    torch.testing.assert_close(
        (first.albedo_map.values * first.light_map.values)[shown],
        (second.albedo_map.values * second.light_map.values)[shown],
        rtol=0.05,
        atol=0.02,
    )


def test_it_needs_a_face(system: RerenderableAlbedo, batch: FaceBatch) -> None:
    with pytest.raises(ValueError, match="give it the face of another system"):
        system(FramedFaces(batch.photo))


def test_texels_that_the_network_cannot_halve_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build_system("rerenderable_albedo", {"texels": 100})
