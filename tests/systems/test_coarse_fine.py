"""CoarseNet keeps its estimate at first, sees a drawing of it, and learns to correct it."""

import math
from dataclasses import replace

import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.cameras import rigid_transform
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.geometry.tensors import named_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.systems.coarse_fine import (
    BLENDED,
    UNROLLED,
    CoarseFine,
    blended,
)
from lifemask.systems.registry import build_system, load_system
from lifemask.training.passes import predict, predict_batches
from lifemask.training.system import FramedFaces

SIZE = 64


def built(preset: str, **options: object) -> CoarseFine:
    torch.manual_seed(0)
    system = build_system(
        "coarse_fine",
        {
            "preset": preset,
            "pretrained": False,
            "crop_size": SIZE,
            "input_size": 128,
            **options,  # type: ignore[dict-item]
        },
    )
    assert isinstance(system, CoarseFine)
    return system


@pytest.fixture(scope="module", params=["compact", "published"])
def system(request: pytest.FixtureRequest) -> CoarseFine:
    return built(request.param)


@pytest.fixture(scope="module")
def stirred() -> CoarseFine:
    """Return a compact system in evaluation mode whose head corrects something."""
    system = built("compact")
    stir(system)
    return system


def stir(system: CoarseFine) -> None:
    for name, weight in system.coarse.named_parameters():
        if name.endswith(
            ("head.4.weight", "correction.outputs.weight", "estimate.weight", "feedback.weight")
        ):
            torch.nn.init.normal_(weight, std=0.02)
    system.eval()


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    faces = SyntheticFaces(SyntheticConfig(size=SIZE, texture_size=32, samples=1))
    return faces.batch(0, 0, 3)


def random_faces(system: CoarseFine, count: int, seed: int = 0) -> ExplainedFace:
    generator = torch.Generator().manual_seed(seed)
    return system.decoder(torch.randn(count, system.decoder.outputs, generator=generator))


def assert_same(one: ExplainedFace, other: ExplainedFace, tolerance: float = 1e-4) -> None:
    ours, theirs = named_tensors(one), named_tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_an_untrained_pass_keeps_the_estimate_or_gives_the_mean_face(system: CoarseFine):
    system.eval()
    photo = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    estimate, mean = random_faces(system, 2), system.mean_faces(2)
    shape = replace(
        mean.coefficients,
        identity=estimate.coefficients.identity,
        expression=estimate.coefficients.expression,
    )
    # Gaze, skin and light are predicted anew.
    kept = replace(mean, coefficients=shape, camera=estimate.camera)
    expected = mean if system.maps is not None else kept
    assert_same(system(FramedFaces(photo, previous=estimate)), expected)
    assert_same(system(FramedFaces(photo)), mean)
    system.train()


def test_the_compact_preset_starts_with_the_face_of_the_dense_landmarks():
    system, known = build_system("coarse_fine"), load_system("dense_landmarks")
    photo = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        face, expected = predict(system.eval(), FramedFaces(photo)), known(FramedFaces(photo))
    for name in ("identity", "expression", "gaze"):
        ours, theirs = (getattr(each.coefficients, name) for each in (face, expected))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_losses_fall_on_one_batch(system: CoarseFine, batch: FaceBatch):
    torch.manual_seed(0)
    weights = system.phases[BLENDED].weights
    learning = [p for p in system.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, 1e-3)
    system.train()
    totals: list[float] = []
    for _ in range(14):
        # The same estimates in each step.
        torch.manual_seed(1)
        (losses,) = system.losses(BLENDED, [batch])
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


def test_a_blend_without_the_random_face_is_the_truth(batch: FaceBatch):
    system = built("compact")
    assert batch.truth is not None
    true = batch.truth.face
    raw = blended(system.decoder.raw(true), torch.zeros(3))
    face = system.decoder(raw, principal_point=true.camera.principal_point)
    plain = ExplainedFace(true.coefficients, true.camera, true.light)
    assert_same(face, plain, tolerance=1e-3)


def test_a_blend_goes_in_a_straight_line_to_a_random_face():
    true = torch.full((3, 50), 2.0)
    torch.manual_seed(0)
    ends = blended(true, torch.ones(3))
    torch.manual_seed(0)
    middle = blended(true, torch.tensor([0.5, 0.25, 0.0]))
    share = torch.tensor([0.5, 0.25, 0.0])[:, None]
    torch.testing.assert_close(middle, (1 - share) * true + share * ends)
    assert 0.8 < ends.std() < 1.2


def test_the_network_sees_the_drawing_and_frozen_layers_do_not(
    stirred: CoarseFine, monkeypatch: pytest.MonkeyPatch
):
    photo = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    seen = stirred.frozen_features(photo)
    assert seen is not None
    given: list[torch.Tensor] = []
    network = stirred.coarse.forward

    def watched(*inputs: torch.Tensor) -> torch.Tensor:
        given.append(network(*inputs))
        return given[-1]

    def refuse(images: torch.Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr(stirred.coarse, "forward", watched)
    monkeypatch.setattr(stirred.maps, "forward", refuse)
    for seed in (1, 2):
        stirred.corrected(seen, random_faces(stirred, 1, seed))
    # Without the drawing, the features would be the same.
    assert (given[0] - given[1]).abs().max() > 1e-2


def test_features_of_an_encoded_bank_take_the_place_of_the_photo(
    stirred: CoarseFine, batch: FaceBatch
):
    features = stirred.frozen_features(batch.photo)
    encoded = replace(batch, photo=torch.zeros_like(batch.photo), features=features)
    (plain,), (read,) = (stirred.losses(UNROLLED, [given]) for given in (batch, encoded))
    for name, value in plain.items():
        torch.testing.assert_close(read[name], value, msg=name)


@pytest.mark.parametrize("preset", ["compact", "published"])
def test_passes_follow_one_another(preset: str):
    photo = torch.rand(2, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    one, three = built(preset, passes=1), built(preset, passes=3)
    stir(three)
    one.load_state_dict(three.state_dict())
    one.eval()
    first = predict(one, FramedFaces(photo))
    assert first.coefficients.identity.shape[:2] == (2, 1)
    again = one(FramedFaces(photo, previous=one(FramedFaces(photo, previous=first))))
    last = predict(three, FramedFaces(photo))
    assert_same(last, again, 1e-6)
    assert (last.coefficients.identity - first.coefficients.identity).abs().max() > 1e-3


def test_losses_in_evaluation_are_those_of_predictions(stirred: CoarseFine, batch: FaceBatch):
    with torch.no_grad():
        (losses,) = stirred.losses(BLENDED, [batch])
        (face,) = predict_batches(stirred, [batch])
        expected = stirred.face_losses(batch, face)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("phase", [BLENDED, UNROLLED])
def test_a_step_depends_only_on_weights_batch_and_seed(phase: str, batch: FaceBatch):
    system = built("compact", unrolled=0.5)
    stir(system)
    system.train()
    state = {name: value.clone() for name, value in system.state_dict().items()}
    without_truth = replace(batch, truth=None)
    found: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        system.load_state_dict(state)
        torch.manual_seed(5)
        known, unknown = system.losses(phase, [batch, without_truth])
        assert "geometry" in known
        assert "geometry" not in unknown
        assert system.training
        assert system.coarse.training
        found.append({**known, "unknown": unknown["landmarks478"]})
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_geometry_is_the_mean_squared_motion_of_the_surface_by_a_turn(batch: FaceBatch):
    system = built("compact", passes=1)
    estimate, angle = system.mean_faces(3), 0.3
    turn = matrix_from_yaw_pitch_roll(torch.full((3,), angle), torch.zeros(3), torch.zeros(3))
    matrix = estimate.camera.world_to_camera @ rigid_transform(turn, torch.zeros(3, 3))
    camera = replace(estimate.camera, world_to_camera=matrix)
    assert batch.truth is not None
    truth = replace(batch.truth, face=replace(estimate, camera=camera))
    (losses,) = system.losses(UNROLLED, [replace(batch, truth=truth)])
    surface = system.face_losses.points(estimate.coefficients)[-1]
    # A point at the distance r from the axis moves by 2 r sin(angle / 2).
    radius_squared = surface[..., 0].square() + surface[..., 2].square()
    expected = radius_squared.mean(-1) * (2 * math.sin(angle / 2) / 0.15) ** 2
    torch.testing.assert_close(losses["geometry"], expected)
    assert losses["coefficients"].abs().max() < 1e-9


def test_impossible_options_are_refused():
    for options, message in (
        ({"passes": 5}, "1 to 4 passes"),
        ({"unrolled": 1.5}, "shares from 0 to 1"),
        ({"feedback": "depth"}, "Unknown feedback"),
        ({"preset": "tiny"}, "Unknown preset"),
        ({"input_size": 200}, "multiple of 64"),
    ):
        with pytest.raises(ValueError, match=message):
            build_system("coarse_fine", {"pretrained": False, **options})


def test_both_kinds_of_feedback_can_be_built():
    plain, more = (built("published", feedback=kind) for kind in ("pncc", "pncc_normals"))
    assert plain.coarse.get_parameter("stem.0.weight").shape[1] == 4
    assert more.coarse.get_parameter("stem.0.weight").shape[1] == 7
