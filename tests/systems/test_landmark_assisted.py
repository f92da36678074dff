"""The landmark-assisted system learns from truth and from landmarks, each phase its own part."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.networks.landmark_map import points18
from lifemask.systems.landmark_assisted import LandmarkAssisted
from lifemask.systems.registry import build_system, find_recipe, load_system
from lifemask.training.config import Value
from lifemask.training.overrides import with_overrides
from lifemask.training.steps import PhaseLosses, check_phases, set_learning, total_loss
from lifemask.training.system import FramedFaces

SMALL: dict[str, dict[str, Value]] = {
    "compact": {"pretrained": False, "crop_size": 64, "input_size": 128},
    "published": {"preset": "published", "crop_size": 64, "input_size": 64, "width": 8},
}
SELF = {"self_2d", "self_3d", "cycle", "self_critic"}
LOOKS = {"gaze", "albedo", "light"}


def built(preset: str, **options: Value) -> LandmarkAssisted:
    torch.manual_seed(0)
    system = build_system("landmark_assisted", {**SMALL[preset], **options})
    assert isinstance(system, LandmarkAssisted)
    # All outputs of an untrained system are 0; with these the features matter.
    torch.nn.init.normal_(system.head.weight, std=0.01)
    return system


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    return SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1)).batch(0, 0, 3)


@pytest.fixture(scope="module")
def photos(batch: FaceBatch) -> FaceBatch:
    """Return the same faces as photos of which only landmarks are known."""
    return replace(batch, truth=None)


@pytest.fixture(scope="module", params=SMALL)
def system(request: pytest.FixtureRequest) -> LandmarkAssisted:
    return built(request.param)


def framed(batch: FaceBatch) -> FramedFaces:
    return FramedFaces(batch.photo, batch.landmarks478, batch.landmarks478_weight)


def with_features(system: LandmarkAssisted, batch: FaceBatch) -> FaceBatch:
    return replace(batch, features=system.frozen_features(batch.photo))


def numbers(face: ExplainedFace) -> Tensor:
    return torch.cat([face.coefficients.identity, face.camera.world_to_camera.flatten(-2)], -1)


def test_an_untrained_system_predicts_the_framed_mean_face(batch: FaceBatch):
    plain = build_system("landmark_assisted", SMALL["compact"])
    face = plain(framed(batch))
    assert float(face.coefficients.identity.detach().abs().max()) == 0
    assert float(face.coefficients.expression.detach().abs().max()) == 0


def test_landmarks_change_a_finite_prediction(system: LandmarkAssisted, batch: FaceBatch):
    system.eval()
    with torch.no_grad():
        given, without = system(framed(batch)), system(FramedFaces(batch.photo))
        unknown = system(replace(framed(batch), landmark_weight=torch.zeros(3, 478)))
    system.train()
    assert numbers(given).isfinite().all()
    assert numbers(without).isfinite().all()
    assert not torch.allclose(numbers(given), numbers(without), atol=1e-6)
    assert torch.equal(numbers(unknown), numbers(without))


def test_batch_axes_are_free(system: LandmarkAssisted, batch: FaceBatch):
    system.eval()
    with torch.no_grad():
        flat = system(framed(batch))
        faces = FramedFaces(
            batch.photo[None], batch.landmarks478[None], batch.landmarks478_weight[None]
        )
        nested = system(faces)
    system.train()
    torch.testing.assert_close(numbers(nested)[0], numbers(flat))


@pytest.mark.parametrize("phase", ["parameters", "vertices"])
def test_losses_fall_on_one_batch(phase: str, batch: FaceBatch, photos: FaceBatch):
    system = built("compact")
    weights = system.phases[phase].weights
    set_learning(system, [n for n, p in system.named_parameters() if p.requires_grad],
                 system.phases[phase])  # fmt: skip
    optimiser = torch.optim.AdamW([p for p in system.parameters() if p.requires_grad], 3e-3)
    batches = [with_features(system, given) for given in (batch, photos)]
    totals: list[float] = []
    for _ in range(16):
        values = PhaseLosses(system, system.phases)(phase, batches)
        assert set(values[0]) == set(weights)
        assert set(values[1]) == SELF
        assert all(value.shape == (3,) for own in values for value in own.values())
        total, _ = total_loss(values, weights)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert sum(totals[-3:]) < 0.75 * sum(totals[:3])


def test_each_phase_moves_only_its_part(
    system: LandmarkAssisted, batch: FaceBatch, photos: FaceBatch
):
    trainable = [n for n, p in system.named_parameters() if p.requires_grad]
    try:
        for name, phase in system.phases.items():
            set_learning(system, trainable, phase)
            system.zero_grad(set_to_none=True)
            values = PhaseLosses(system, system.phases)(name, [batch, photos])
            total_loss(values, phase.weights)[0].backward()
            moved = {n for n, p in system.named_parameters() if p.grad is not None}
            assert moved == {n for n in trainable if phase.changes(n)}, name
            assert any(n.startswith("critic.") for n in moved) == (name == "critic")
    finally:
        for name, parameter in system.named_parameters():
            parameter.requires_grad_(name in trainable)


def test_the_critic_in_use_is_the_one_that_learns(batch: FaceBatch, photos: FaceBatch):
    system = built("compact").eval()
    batch, photos = (with_features(system, given) for given in (batch, photos))
    with torch.no_grad():
        (before,) = system.losses("parameters", [photos])
    optimiser = torch.optim.Adam(system.critic.parameters(), 1e-3)
    total = torch.tensor(0.0)
    for _ in range(12):
        true, unknown = system.losses("critic", [batch, photos])
        assert not unknown
        total = true["true"].mean() + true["predicted"].mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert float(total.detach()) < 0.2
    with torch.no_grad():
        (after,) = system.losses("parameters", [photos])
    # The predictions are the same, but now it sees that they are not true.
    assert float(after["self_critic"].mean()) > float(before["self_critic"].mean()) + 1
    torch.testing.assert_close(after["cycle"], before["cycle"])


def test_the_critic_sends_no_gradient_into_the_features(batch: FaceBatch):
    system = built("compact")
    encoder = [p for p in system.encoder.parameters() if p.requires_grad]

    def size() -> float:
        (losses,) = system.losses("parameters", [batch])
        found = torch.autograd.grad(losses["self_critic"].sum(), encoder, allow_unused=True)
        gradients: list[Tensor | None] = list(found)
        return sum(float(g.abs().sum()) for g in gradients if g is not None)

    assert size() > 0
    # Without the head, only the path through the critic's view of the image is left.
    torch.nn.init.zeros_(system.head.weight)
    assert size() == 0


@pytest.mark.parametrize(("soft", "reaches"), [(True, True), (False, False)])
def test_the_cycle_reaches_the_first_pass_only_with_a_soft_map(
    soft: bool, reaches: bool, photos: FaceBatch, monkeypatch: pytest.MonkeyPatch
):
    system = built("compact", soft_map=soft, dropped=0.0)
    drawn: list[Tensor] = []
    own = system.landmark_map

    def kept(points: Tensor, weight: Tensor) -> Tensor:
        drawn.append(points)
        return own(points, weight)

    monkeypatch.setattr(system, "landmark_map", kept)
    (losses,) = system.losses("parameters", [photos])
    given, predicted = drawn
    torch.testing.assert_close(given, points18(photos.landmarks478))
    assert predicted.requires_grad
    gradient: Tensor | None
    (gradient,) = torch.autograd.grad(losses["cycle"].sum(), [predicted], allow_unused=True)
    assert (gradient is not None and float(gradient.abs().sum()) > 0) == reaches


def test_noise_and_empty_maps_are_for_the_input_in_training_only(photos: FaceBatch):
    system = built("compact", dropped=0.0)
    seen = with_features(system, photos)

    def found(dropped: float, noise: float) -> Tensor:
        system.dropped, system.landmark_noise = dropped, noise
        return system.losses("parameters", [seen])[0]["self_2d"]

    plain, again, noisy, empty = found(0, 0), found(0, 0), found(0, 0.05), found(1, 0)
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, noisy)
    assert not torch.allclose(plain, empty)
    system.eval()
    assert torch.equal(found(0, 0), found(1, 0.05))


def test_the_truth_has_no_loss(batch: FaceBatch, monkeypatch: pytest.MonkeyPatch):
    system = built("compact").eval()
    assert batch.truth is not None
    truth = batch.truth.face
    monkeypatch.setattr(system.decoder, "forward", lambda raw: truth)
    for phase in ("parameters", "vertices"):
        (losses,) = system.losses(phase, [batch])
        for name in ("weighted_parameters", "vertices", "self_3d", *LOOKS):
            if name in losses:
                assert float(losses[name].detach().max()) < 1e-4, name
        # The points of a head ignore what its lids do over its eyeballs: under a pixel.
        assert float(losses["self_2d"].detach().max()) < 1


def test_features_of_an_encoded_bank_take_the_place_of_the_photo(batch: FaceBatch):
    system = built("compact").eval()
    encoded = replace(
        batch, photo=torch.zeros_like(batch.photo), features=system.frozen_features(batch.photo)
    )
    (plain,), (read,) = (system.losses("vertices", [given]) for given in (batch, encoded))
    for name, value in plain.items():
        torch.testing.assert_close(read[name], value, msg=name)
    assert built("published").frozen_features(batch.photo) is None


def test_recipes_build_systems_that_fit_their_phases():
    for name in ("landmark_assisted", "landmark_assisted_published"):
        recipe = find_recipe(name)
        recipe = with_overrides(recipe, recipe.smoke)
        system = build_system(recipe.system.name, recipe.system.options)
        check_phases(recipe, system)
        assert not any(n.startswith("critic.") for n in system.released_state())


def test_the_compact_preset_starts_with_the_face_of_the_dense_landmarks(batch: FaceBatch):
    system, known = build_system("landmark_assisted"), load_system("dense_landmarks")
    photo = torch.nn.functional.interpolate(batch.photo, (192, 192), mode="bilinear")
    dense = torch.rand(len(photo), 478, 2) * 192
    with torch.no_grad():
        face, expected = system.eval()(FramedFaces(photo, dense)), known(FramedFaces(photo))
    for name in ("identity", "expression", "gaze"):
        ours, theirs = (getattr(each.coefficients, name) for each in (face, expected))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match=r"Unknown preset 'large'\. Known: compact, published"):
        build_system("landmark_assisted", {"preset": "large"})
    with pytest.raises(ValueError, match=r"dropped=1\.5"):
        built("compact", dropped=1.5)
