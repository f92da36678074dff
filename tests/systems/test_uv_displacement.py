"""Photos explain themselves: the drawing of a predicted face learns to look like the photo."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.networks.frozen import frozen_digests
from lifemask.rendering.heads import head_surface, render_head
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS
from lifemask.systems.registry import build_system, find_recipe, load_system
from lifemask.systems.uv_displacement import COARSE, KEY_POINT_WEIGHTS, UVDisplacement
from lifemask.training.config import Value
from lifemask.training.encoding import encoder_version
from lifemask.training.overrides import with_overrides
from lifemask.training.steps import PhaseLosses, check_phases, set_learning, total_loss
from lifemask.training.system import FramedFaces

SMALL: dict[str, dict[str, Value]] = {
    "compact": {"pretrained": False, "crop_size": 64, "input_size": 128, "drawn_size": 64},
    "published": {
        "preset": "published", "crop_size": 64, "input_size": 64, "drawn_size": 48, "width": 8,
    },
}  # fmt: skip
OWN = {
    "photometric", "likeness", "key_points", "identity_prior", "expression_prior", "albedo_prior",
}  # fmt: skip


def built(preset: str) -> UVDisplacement:
    torch.manual_seed(0)
    system = build_system("uv_displacement", SMALL[preset])
    assert isinstance(system, UVDisplacement)
    # All outputs of an untrained system are 0; with these the features matter.
    torch.nn.init.normal_(system.head.weight, std=0.01)
    return system


@pytest.fixture(scope="module", params=SMALL)
def system(request: pytest.FixtureRequest) -> UVDisplacement:
    return built(request.param)


@pytest.fixture(scope="module")
def compact() -> UVDisplacement:
    return built("compact").eval()


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    return SyntheticFaces(SyntheticConfig(size=64, texture_size=32, samples=1)).batch(0, 0, 3)


@pytest.fixture(scope="module")
def photos(batch: FaceBatch) -> FaceBatch:
    """Return the same faces as photos without truth."""
    return replace(batch, truth=None)


@pytest.fixture(scope="module")
def explained(compact: UVDisplacement, batch: FaceBatch) -> tuple[ExplainedFace, FaceBatch]:
    """Return faces, and photos of their bare heads in just their light; skin ends before the outline."""
    assert batch.truth is not None
    face = batch.truth.face
    plain = ExplainedFace(face.coefficients, face.camera, face.light)
    images = render_head(head_surface(compact.model, plain), plain.camera, plain.light).fine
    photo = images.colour.clamp(0, 1)
    _, covered = compact.renderer(plain, photo.shape[-1])
    skin = 1 - torch.nn.functional.max_pool2d(1 - covered, 5, 1, 2)
    seen = replace(batch, photo=photo, skin=skin, truth=None)
    return plain, seen


def losses_of(
    system: UVDisplacement, face: ExplainedFace, batch: FaceBatch, patch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """Return the losses of a batch as if the network had predicted a face."""
    patch.setattr(system, "_explained", lambda seen: face)
    (losses,) = system.losses(COARSE, [batch])
    patch.undo()
    return dict(losses)


def test_the_true_face_explains_its_photo_and_other_skin_or_light_does_not(
    compact: UVDisplacement,
    explained: tuple[ExplainedFace, FaceBatch],
    monkeypatch: pytest.MonkeyPatch,
):
    face, seen = explained
    lit = replace(face, light=SphericalHarmonicsLight(face.light.coefficients * 1.4))
    albedo = face.coefficients.albedo + 0.7
    skin = replace(face, coefficients=replace(face.coefficients, albedo=albedo))
    with torch.no_grad():
        true, light, other = (
            losses_of(compact, given, seen, monkeypatch) for given in (face, lit, skin)
        )
    assert true["photometric"].max() < 0.05
    for changed in (light, other):
        assert (changed["photometric"] > 2 * true["photometric"]).all()
    # The embedding sees the same face in both, and another one in another shape.
    assert true["likeness"].max() < 0.05
    identity = face.coefficients.identity.roll(1, 0)
    swapped = replace(face, coefficients=replace(face.coefficients, identity=identity))
    with torch.no_grad():
        assert (
            losses_of(compact, swapped, seen, monkeypatch)["likeness"] > 2 * true["likeness"]
        ).all()


@pytest.mark.parametrize("name", ["photometric", "likeness", "key_points"])
def test_each_loss_of_the_photo_reaches_the_coefficients(
    name: str,
    compact: UVDisplacement,
    explained: tuple[ExplainedFace, FaceBatch],
    monkeypatch: pytest.MonkeyPatch,
):
    face, seen = explained
    identity = (face.coefficients.identity * 0.5).requires_grad_()
    albedo = (face.coefficients.albedo * 0.5).requires_grad_()
    light = face.light.coefficients.clone().requires_grad_()
    given = replace(
        face,
        coefficients=replace(face.coefficients, identity=identity, albedo=albedo),
        light=SphericalHarmonicsLight(light),
    )
    value = losses_of(compact, given, seen, monkeypatch)[name]
    value.sum().backward()
    found = [given.grad for given in (identity, albedo, light)]
    # Points know nothing of colours; drawings know all.
    reached = [gradient is not None and bool(gradient.any()) for gradient in found]
    assert reached == [True, name != "key_points", name != "key_points"]


def test_losses_fall_on_one_batch_and_only_the_trunk_and_head_change(
    batch: FaceBatch, photos: FaceBatch
):
    system = built("compact")
    weights = system.phases[COARSE].weights
    trainable = [n for n, p in system.named_parameters() if p.requires_grad]
    set_learning(system, trainable, system.phases[COARSE])
    frozen = frozen_digests(system)
    features = system.frozen_features(batch.photo)
    batches = [replace(given, features=features) for given in (batch, photos)]
    optimiser = torch.optim.AdamW([p for p in system.parameters() if p.requires_grad], 3e-3)
    totals: list[float] = []
    looks: list[float] = []
    for _ in range(10):
        values = PhaseLosses(system, system.phases)(COARSE, batches)
        assert set(values[0]) == set(weights)
        assert set(values[1]) == OWN | {"landmarks478", "landmarks68", "aflw21"}
        assert all(value.shape == (3,) for own in values for value in own.values())
        total, means = total_loss(values, weights)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
        looks.append(float(means["photometric"].detach()))
    assert totals[-1] < 0.75 * totals[0]
    assert min(looks[-3:]) < looks[0]
    # All that learns has a gradient; the frozen convolutions and the embedding stay as they are.
    assert all(p.grad is not None for p in system.parameters() if p.requires_grad)
    assert frozen_digests(system) == frozen
    assert not any(name.startswith(("identity.", "encoder.maps.")) for name in system.state_dict())


def test_the_likeness_changes_the_gradient(batch: FaceBatch, photos: FaceBatch):
    system = built("published")
    found: list[Tensor] = []
    for weight in (0.0, 0.2):
        values = system.losses(COARSE, [photos])
        weights = {**system.phases[COARSE].weights, "likeness": weight}
        total, _ = total_loss(values, weights)
        (gradient,) = torch.autograd.grad(total, [system.head.weight])
        found.append(gradient)
    assert float((found[1] - found[0]).norm() / found[0].norm()) > 1e-4


def test_losses_without_truth_do_not_use_it(
    compact: UVDisplacement, batch: FaceBatch, photos: FaceBatch
):
    with torch.no_grad():
        known, unknown = compact.losses(COARSE, [batch, photos])
    assert set(known) - set(unknown) == set(FACE_LOSS_WEIGHTS) - {
        "prior", "landmarks478", "landmarks68", "aflw21",
    }  # fmt: skip
    for name, value in unknown.items():
        torch.testing.assert_close(value, known[name], msg=name)


def test_unknown_landmarks_and_hidden_skin_count_nothing(
    compact: UVDisplacement, photos: FaceBatch
):
    lost = replace(
        photos,
        skin=torch.zeros_like(photos.skin),
        landmarks68=photos.landmarks68 * torch.nan,
        landmarks68_weight=torch.zeros_like(photos.landmarks68_weight),
        landmarks478=photos.landmarks478 * torch.nan,
        landmarks478_weight=torch.zeros_like(photos.landmarks478_weight),
    )
    (losses,) = compact.losses(COARSE, [lost])
    for name in ("photometric", "likeness", "key_points"):
        assert float(losses[name].detach().abs().max()) == 0, name
    torch.stack([losses[name].sum() for name in OWN]).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in compact.parameters())
    compact.zero_grad(set_to_none=True)


def test_clips_keep_their_axes(compact: UVDisplacement, photos: FaceBatch):
    clip = map_tensors(lambda t: t[None], photos)
    with torch.no_grad():
        (flat,), (nested,) = (compact.losses(COARSE, [given]) for given in (photos, clip))
        face = compact(FramedFaces(clip.photo))
    assert face.coefficients.identity.shape[:2] == (1, 3)
    for name, value in flat.items():
        assert nested[name].shape == (1, 3)
        torch.testing.assert_close(nested[name][0], value, msg=name)


def test_features_of_an_encoded_bank_take_the_place_of_the_frozen_layers(
    compact: UVDisplacement, photos: FaceBatch
):
    read = replace(photos, features=compact.frozen_features(photos.photo))
    with torch.no_grad():
        (plain,), (encoded,) = (compact.losses(COARSE, [given]) for given in (photos, read))
    for name, value in plain.items():
        torch.testing.assert_close(encoded[name], value, msg=name)


def test_lids_count_most_among_the_key_points():
    assert len(KEY_POINT_WEIGHTS) == 68
    assert [KEY_POINT_WEIGHTS[k] for k in (37, 62, 36, 30, 8, 19)] == [15, 10, 5, 5, 2, 1]


def test_an_untrained_published_system_has_the_mean_face(photos: FaceBatch):
    plain = build_system("uv_displacement", SMALL["published"]).eval()
    face = plain(FramedFaces(photos.photo))
    assert float(face.coefficients.identity.detach().abs().max()) == 0
    assert isinstance(plain, UVDisplacement)
    assert plain.frozen_features(photos.photo) is None


def test_the_compact_preset_starts_with_the_face_of_the_dense_landmarks_and_shares_encoded_banks(
    photos: FaceBatch,
):
    system, known = build_system("uv_displacement").eval(), load_system("dense_landmarks")
    assert encoder_version(system) == encoder_version(build_system("landmark_assisted"))
    size = (192, 192)
    photo = torch.nn.functional.interpolate(photos.photo, size, mode="bilinear", antialias=True)
    with torch.no_grad():
        face, expected = system(FramedFaces(photo)), known(FramedFaces(photo))
    for part in ("identity", "expression", "albedo"):
        given, wanted = (getattr(f.coefficients, part) for f in (face, expected))
        torch.testing.assert_close(given, wanted, atol=1e-3, rtol=1e-3, msg=part)


@pytest.mark.parametrize("name", ["uv_displacement", "uv_displacement_published"])
def test_recipes_build_small_systems_whose_losses_have_weights(name: str, photos: FaceBatch):
    recipe = find_recipe(name)
    recipe = with_overrides(recipe, recipe.smoke)
    system = build_system(recipe.system.name, recipe.system.options)
    check_phases(recipe, system)
    assert system.crop_size == 64
    (losses,) = system.losses(COARSE, [photos])
    assert set(losses) <= set(recipe.phases[COARSE].weights)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"Unknown preset 'large'\. Known: compact, published"):
        build_system("uv_displacement", {"preset": "large"})
