"""The chain sees upright faces and their unwrapped colours; other reflectances must explain a photo."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import named_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.networks.frozen import frozen_digests
from lifemask.perception.framing import crop_camera
from lifemask.rendering.heads import head_surface, render_head
from lifemask.systems.conditional import PHOTOMETRIC, WARM_UP, Conditional
from lifemask.systems.registry import build_system, find_recipe
from lifemask.training.flat_batches import flat_batches
from lifemask.training.overrides import with_overrides
from lifemask.training.passes import predict, predict_batches
from lifemask.training.system import FramedFaces

SIZE, TEXELS = 64, 32


def built(preset: str = "published", **options: object) -> Conditional:
    torch.manual_seed(0)
    system = build_system(
        "conditional",
        {
            "preset": preset,
            "pretrained": False,
            "crop_size": SIZE,
            "input_size": 128 if preset == "compact" else SIZE,
            "uv_size": TEXELS,
            "width": 4,
            **options,  # type: ignore[dict-item]
        },
    )
    assert isinstance(system, Conditional)
    return system


def stirred(**options: object) -> Conditional:
    """Return a system whose networks all say something."""
    system = built(**options)  # type: ignore[arg-type]
    for head in (system.viewpoint_head, system.shape_head, system.light_head):
        torch.nn.init.normal_(head.weight, std=0.02)
    torch.nn.init.normal_(system.reflectance.last.weight, std=0.2)
    return system.eval()


@pytest.fixture(scope="module")
def system() -> Conditional:
    return stirred()


@pytest.fixture(scope="module")
def generator() -> SyntheticFaces:
    return SyntheticFaces(SyntheticConfig(size=SIZE, texture_size=32, samples=1))


@pytest.fixture(scope="module")
def clips(generator: SyntheticFaces) -> FaceBatch:
    return generator.clips(0, 0, 2, 2)


@pytest.fixture(scope="module")
def stills(generator: SyntheticFaces) -> FaceBatch:
    return generator.batch(0, 0, 2)


@pytest.fixture(scope="module")
def plain_faces() -> FaceBatch:
    """Return bare drawn faces in soft light, as the camera saw them.

    Their skin is light: what shines on dark skin is a large part of its colour, and no drawing has it.
    """
    parts = (
        "dressed",
        "mask",
        "hand",
        "held",
        "directional_light",
        "degradations",
        "wrinkles",
        "grey",
    )
    more = ("pores", "expression_wrinkles", "freckles", "moles", "blemishes", "beard", "make_up")
    config = SyntheticConfig(
        size=96,
        texture_size=128,
        yaw_limit_degrees=40.0,
        tone_range_degrees=(20.0, 56.0),
        **dict.fromkeys((*parts, *more), 0.0),
    )
    return SyntheticFaces(config).batch(3, 0, 4)


def truth_of(batch: FaceBatch) -> ExplainedFace:
    assert batch.truth is not None
    return batch.truth.face


def distance(system: Conditional, batch: FaceBatch, face: ExplainedFace) -> Tensor:
    """Return how far photos are from faces with their own reflectance."""
    return system.colour_losses(batch, face, frames=1)["own"]


def total(system: Conditional, phase: str, batches: list[FaceBatch]) -> Tensor:
    weights = system.phases[phase].weights
    found = system.losses(phase, batches)
    assert all(set(losses) <= set(weights) for losses in found)
    return torch.stack(
        [weights[name] * value.mean() for losses in found for name, value in losses.items()]
    ).sum()


@pytest.mark.parametrize("preset", ["compact", "published"])
def test_an_untrained_system_predicts_the_mean_face_with_the_mean_albedo(preset: str):
    system = built(preset).eval()
    assert system.model.albedo is not None
    face = predict(system, FramedFaces(torch.rand(2, 1, 3, SIZE, SIZE)))
    view = viewpoint_of(face.camera)
    torch.testing.assert_close(view.translation, system.standard.translation.expand(2, 1, 2))
    given = face.coefficients
    for part in (given.identity, given.expression, given.gaze):
        assert not part.any()
    assert given.albedo.abs().max() < 1e-3
    assert face.albedo_map is not None
    mean = F.interpolate(
        system.model.albedo.mean_log[None], (TEXELS, TEXELS), mode="bilinear", antialias=True
    ).exp()
    torch.testing.assert_close(face.albedo_map.values, mean.expand(2, 1, -1, -1, -1))
    white = SphericalHarmonicsLight.ambient().coefficients
    torch.testing.assert_close(face.light.coefficients, white.expand(2, 1, 9, 3))


def test_turned_and_moved_faces_are_aligned(system: Conditional, stills: FaceBatch):
    camera = truth_of(stills).camera
    frame = system.aligning_frame(viewpoint_of(camera))
    assert frame.roll.abs().max() > 0.02
    seen = viewpoint_of(crop_camera(camera, frame, SIZE))
    torch.testing.assert_close(
        seen.translation, system.standard.translation.expand(2, 2), atol=1e-2, rtol=0
    )
    torch.testing.assert_close(
        seen.pixels_per_metre, system.standard.pixels_per_metre.expand(2), rtol=1e-3, atol=0
    )
    # The head's up axis points up in the crop.
    assert seen.rotation[:, 0, 1].abs().max() < 2e-2
    assert (seen.rotation[:, 1, 1] < 0).all()


def test_the_unwrapped_drawing_of_a_face_is_its_texture(plain_faces: FaceBatch):
    system = built(crop_size=96)
    face = replace(truth_of(plain_faces), displacement_map=None)
    drawn = render_head(head_surface(system.model, face), face.camera).fine
    found = system.unwrapped(drawn.albedo, face)
    assert face.albedo_map is not None
    true = F.interpolate(face.albedo_map.values, (TEXELS, TEXELS), mode="area")
    seen = found.visibility * system.face_texels > 0.99
    assert seen.sum((-2, -1)).min() > 100
    error = (found.texture - true).abs().mean(1)[seen] / true.mean(1)[seen]
    assert error.median() < 0.03
    # What is hidden stays black.
    assert not found.texture[(found.visibility == 0)[:, None].expand_as(found.texture)].any()


def test_a_drawn_face_explains_its_photo_and_another_light_or_skin_does_not(
    plain_faces: FaceBatch,
):
    system = built(crop_size=96, swap=False, flip=False)
    face = truth_of(plain_faces)
    own = distance(system, plain_faces, face)
    assert own.max() < 0.07
    light = SphericalHarmonicsLight(face.light.coefficients * 1.4)
    assert (distance(system, plain_faces, replace(face, light=light)) > 2 * own).all()
    assert face.albedo_map is not None
    darker = replace(face.albedo_map, values=face.albedo_map.values * 0.6)
    assert (distance(system, plain_faces, replace(face, albedo_map=darker)) > 2 * own).all()


def test_a_symmetric_reflectance_is_its_own_mirror_image(plain_faces: FaceBatch):
    face = truth_of(plain_faces)
    system = built(crop_size=96, swap=False)
    unconstrained = built(crop_size=96, swap=False, flip=False)
    assert system.model.albedo is not None
    texture = system.model.albedo.texture(face.coefficients.albedo)
    symmetric = replace(face, albedo_map=UVMap(texture, torch.ones_like(texture[:, 0])))
    flipped = system.colour_losses(plain_faces, symmetric, frames=1)
    assert set(flipped) == {"flip"}
    own = distance(unconstrained, plain_faces, symmetric)
    torch.testing.assert_close(flipped["flip"], own, atol=2e-3, rtol=0)
    # A shadow on one side is found.
    shadow = torch.ones(texture.shape[-1])
    shadow[: len(shadow) // 2] = 0.5
    shaded = replace(symmetric, albedo_map=UVMap(texture * shadow, torch.ones_like(texture[:, 0])))
    light = system.colour_losses(plain_faces, shaded, frames=1)["flip"]
    assert (light > own + 0.02).all()


def test_a_frame_is_explained_by_another_frame_only(system: Conditional, clips: FaceBatch):
    (flat,) = flat_batches([clips])
    with torch.no_grad():
        face = system.explain(flat.photo, torch.tensor([0, 0, 1, 1]))
    assert face.albedo_map is not None
    values = face.albedo_map.values.clone().requires_grad_()
    given = replace(face, albedo_map=replace(face.albedo_map, values=values))
    losses = system.colour_losses(flat, given, frames=2)
    losses["swap"][2].backward()
    assert values.grad is not None
    assert values.grad.flatten(1).any(1).tolist() == [False, False, False, True]
    assert not system.colour_losses(flat, given, frames=1)["swap"].any()


def test_frames_of_a_clip_share_their_identity_and_nothing_else(
    system: Conditional, clips: FaceBatch, stills: FaceBatch
):
    with torch.no_grad():
        of_clips, of_stills = predict_batches(system, [clips, stills])
        alone = predict(system, FramedFaces(clips.photo[:, :1]))
    given = of_clips.coefficients
    assert torch.equal(given.identity[:, 0], given.identity[:, 1])
    assert not torch.allclose(given.identity[0], given.identity[1])
    assert not torch.allclose(given.expression[:, 0], given.expression[:, 1])
    assert not torch.allclose(alone.coefficients.identity[:, 0], given.identity[:, 0])
    assert of_stills.albedo_map is not None
    assert of_stills.albedo_map.values.shape == (2, 3, TEXELS, TEXELS)


def test_losses_in_evaluation_are_those_of_predictions(
    system: Conditional, clips: FaceBatch, stills: FaceBatch
):
    with torch.no_grad():
        found = system.losses(WARM_UP, [clips, stills])
        faces = predict_batches(system, [clips, stills])
    for batch, losses, face in zip([clips, stills], found, faces, strict=True):
        for name, value in system.face_losses(batch, face).items():
            torch.testing.assert_close(losses[name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_albedo_coefficients_are_those_of_a_map_of_the_model(system: Conditional):
    albedo = system.model.albedo
    assert albedo is not None
    wanted = torch.zeros(1, len(albedo.basis_log))
    for mode, value in (("melanin", 1.5), ("blood", -1.0), ("lip_redness", 1.0)):
        wanted[0, albedo.mode_names.index(mode)] = value
    small = F.interpolate(
        albedo.texture(wanted).log(), (TEXELS, TEXELS), mode="bilinear", antialias=True
    )
    found = system.albedo_coefficients(small.exp())
    again = F.interpolate(
        albedo.texture(found).log(), (TEXELS, TEXELS), mode="bilinear", antialias=True
    )
    face = system.face_texels.bool()
    assert (small - albedo.mean_log.mean((-1, -2))[:, None, None]).abs().mean() > 0.1
    assert (again - small)[..., face].abs().mean() < 0.02


@pytest.mark.parametrize("options", [{}, {"coupled": False}, {"preset": "compact"}])
def test_losses_fall_on_one_batch_and_all_parts_learn(
    options: dict[str, object], clips: FaceBatch, stills: FaceBatch
):
    system = built(**options)  # type: ignore[arg-type]
    system.train()
    frozen = frozen_digests(system)
    assert bool(frozen) == (options.get("preset") == "compact")
    learning = [p for p in system.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, 1e-3)
    unknown = replace(stills, truth=None)
    totals: list[float] = []
    for step in range(11):
        value = total(system, WARM_UP if step < 3 else PHOTOMETRIC, [clips, unknown])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        totals.append(float(value.detach()))
    assert totals[2] < totals[0]
    assert totals[-1] < 0.9 * totals[3]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)
    assert frozen_digests(system) == frozen


def test_colours_alone_teach_the_light_and_the_reflectance(system: Conditional, stills: FaceBatch):
    losses = system.losses(PHOTOMETRIC, [stills])[0]
    system.zero_grad()
    losses["flip"].sum().backward()
    for part in (system.light, system.reflectance, system.shape, system.viewpoint_head):
        gradients = [p.grad for p in part.parameters()]
        assert any(g is not None and g.any() for g in gradients)
        assert all(g is None or g.isfinite().all() for g in gradients)
    system.zero_grad()


def test_the_warm_up_has_no_photometric_losses(system: Conditional, stills: FaceBatch):
    with torch.no_grad():
        (first,), (later,) = (system.losses(phase, [stills]) for phase in (WARM_UP, PHOTOMETRIC))
    assert set(later) - set(first) == {"swap", "flip"}
    weights = system.phases[PHOTOMETRIC].weights
    assert set(weights) == set(later) | {"own"}


def test_white_light_has_one_colour(stills: FaceBatch):
    for white in (True, False):
        light = stirred(white_light=white)(FramedFaces(stills.photo[:, None])).light.coefficients
        equal = torch.allclose(light, light[..., :1].expand_as(light), atol=1e-6)
        assert equal == white


def test_later_networks_see_earlier_ones_only_in_the_chain(stills: FaceBatch):
    for coupled in (True, False):
        system = stirred(coupled=coupled)
        with torch.no_grad():
            before = system(FramedFaces(stills.photo[:, None]))
            system.viewpoint_head.bias.add_(0.3)
            after = system(FramedFaces(stills.photo[:, None]))
        one, other = named_tensors(before), named_tensors(after)
        changed = {
            part
            for part in ("identity", "expression", "albedo")
            if not torch.equal(one[f"coefficients.{part}"], other[f"coefficients.{part}"])
        }
        assert changed == ({"identity", "expression", "albedo"} if coupled else set())


@pytest.mark.parametrize("name", ["conditional", "conditional_published"])
def test_recipes_name_what_the_system_has(name: str):
    recipe = find_recipe(name)
    small = with_overrides(recipe, recipe.smoke)
    system = build_system("conditional", small.system.options)
    assert isinstance(system, Conditional)
    for phase, own in system.phases.items():
        assert set(recipe.phases[phase].weights) == set(own.weights)


def test_impossible_options_are_refused():
    for options, message in (
        ({"preset": "tiny"}, "Unknown preset"),
        ({"input_size": 200}, "multiple of 64"),
        ({"uv_size": 40}, "multiples of 16"),
    ):
        with pytest.raises(ValueError, match=message):
            build_system("conditional", {"pretrained": False, **options})  # type: ignore[dict-item]
