"""Guards stop a training with collapsed appearance, and no other training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.toy import ToySystem, toy_parts, toy_recipe

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.training import validation
from lifemask.training.config import GuardLimits, RunOptions, TrainingError
from lifemask.training.guards import (
    GuardReadings,
    albedo_drift,
    read_guards,
    saturated_share,
    shading_spread,
    tripped,
)
from lifemask.training.loop import train


def test_spread_is_the_deviation_over_skin_alone() -> None:
    shading = torch.tensor([[1.0, 3.0, 100.0], [2.0, 2.0, 7.0]])
    skin = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(shading_spread(shading, skin), torch.tensor([1.0, 0.0]))
    assert float(shading_spread(shading, skin * 0).max()) == 0


def test_share_counts_texels_near_the_limit() -> None:
    displacement = torch.tensor([[0.0019, -0.0019], [0.0017, 0.0]])
    assert float(saturated_share(displacement, 0.002, 0.9)) == 0.5


def test_drift_is_the_distance_of_the_means() -> None:
    prior = torch.full((3, 4, 4), 0.4)
    assert float(albedo_drift(prior + 0.2, prior)) == pytest.approx(0.2)
    assert float(albedo_drift(torch.stack([prior + 0.2, prior - 0.2]), prior)) == pytest.approx(0)


def estimate(head: MorphableModel, light: SphericalHarmonicsLight) -> ExplainedFace:
    pose = rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.0, 0.0, 0.8]))
    camera = PerspectiveCamera(torch.tensor(800.0), torch.tensor([64.0, 64.0]), pose, (128, 128))
    return ExplainedFace(head.neutral(), camera, light)


def test_constant_light_trips_and_a_lamp_does_not() -> None:
    head = MorphableModel.from_pretrained(identity_modes=5)
    limits = GuardLimits()
    constant = read_guards(estimate(head, SphericalHarmonicsLight.ambient()), head, limits)
    assert set(tripped(constant, limits)) == {"shading_spread"}
    lamp = SphericalHarmonicsLight.from_direction(0.7, 0.3)
    assert tripped(read_guards(estimate(head, lamp), head, limits), limits) == {}


def test_a_drifted_albedo_trips() -> None:
    head = MorphableModel.from_pretrained(identity_modes=5)
    lamp = estimate(head, SphericalHarmonicsLight.from_direction(0.7, 0.3))
    white = lamp.coefficients.albedo.clone()
    white[0] = -9.0  # melanin
    drifted = replace(lamp, coefficients=replace(lamp.coefficients, albedo=white))
    wrong = tripped(read_guards(drifted, head, GuardLimits()), GuardLimits())
    assert set(wrong) == {"albedo_drift"}
    assert "at most 0.15" in wrong["albedo_drift"]


@pytest.mark.parametrize(
    ("readings", "wrong"),
    [
        (GuardReadings(0.1, 0.1, 0.04), set[str]()),
        (GuardReadings(0.1, None, None), set[str]()),
        (
            GuardReadings(0.009, 0.16, 0.06),
            {"shading_spread", "albedo_drift", "displacement_share"},
        ),
        (GuardReadings(float("nan"), float("nan"), None), {"shading_spread", "albedo_drift"}),
    ],
)
def test_limits(readings: GuardReadings, wrong: set[str]) -> None:
    assert set(tripped(readings, GuardLimits())) == wrong


def test_an_albedo_map_that_drifted_trips_though_its_coefficients_did_not() -> None:
    head = MorphableModel.from_pretrained(identity_modes=5)
    face = estimate(head, SphericalHarmonicsLight.from_direction(0.7, 0.3))
    white = UVMap(torch.full((3, 16, 16), 0.9), torch.ones(16, 16))
    wrong = tripped(
        read_guards(replace(face, albedo_map=white), head, GuardLimits()), GuardLimits()
    )
    assert set(wrong) == {"albedo_drift"}


def test_displacement_trips_by_the_texels_it_covers() -> None:
    head = MorphableModel.from_pretrained(identity_modes=5)
    face = estimate(head, SphericalHarmonicsLight.from_direction(0.7, 0.3))
    covered = torch.zeros(16, 16)
    covered[:4] = 1
    deep = torch.zeros(1, 16, 16)
    deep[0, 0] = 0.002
    saturated = replace(face, displacement_map=UVMap(deep, covered))
    reading = read_guards(saturated, head, GuardLimits())
    assert reading.displacement_share == pytest.approx(0.25)
    assert set(tripped(reading, GuardLimits())) == {"displacement_share"}


@pytest.mark.parametrize(
    ("collapse", "message"),
    [
        ("light", "the light has become constant"),
        ("albedo", "the albedo has drifted by"),
        ("displacement", "100.0% of the displacement is at its limit"),
    ],
)
def test_every_guard_stops_a_run_that_collapses(
    tmp_path: Path, collapse: str, message: str
) -> None:
    parts = toy_parts(ToySystem(collapse=collapse))
    options = RunOptions(tmp_path, device="cpu", workers=0, validation_steps=1)
    recipe = toy_recipe(guards=GuardLimits(from_progress=0.1))
    # The first validation is before the guards watch.
    with pytest.raises(TrainingError, match=f"collapsed at step 4: {message}"):
        train(recipe, parts, options)
    assert (tmp_path / "checkpoints" / "step-00000004").exists()


def test_a_run_that_does_not_collapse_goes_on(tmp_path: Path) -> None:
    options = RunOptions(tmp_path, device="cpu", workers=0, validation_steps=1)
    recipe = toy_recipe(guards=GuardLimits(from_progress=0.1))
    assert train(recipe, toy_parts(ToySystem(collapse="none")), options).reason == "finished"


def test_a_validation_that_passes_starts_the_count_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([0.0, 0.0, 0.1, 0.0, 0.0, 0.0])
    monkeypatch.setattr(
        validation, "read_guards", lambda *_: GuardReadings(next(readings), None, None)
    )
    parts = toy_parts()
    # One source, so that each validation reads once.
    held_out = replace(parts.held_out, sources={"one": parts.held_out.sources["one"]})
    options = RunOptions(tmp_path, device="cpu", workers=0, validation_steps=1)
    recipe = toy_recipe(guards=GuardLimits(from_progress=0.1))
    with pytest.raises(TrainingError, match="collapsed at step 6: the light has become constant"):
        train(recipe, replace(parts, held_out=held_out), options)
