"""Wearables of synthetic people fit, follow the head, and may be shipped."""

from functools import cache

import numpy as np
import pytest
import torch

from lifemask.data.wearables.dressing import Dressed, dress, fabric, neutral_vertices, worn
from lifemask.data.wearables.outfit import NECKLINES, Outfit, OutfitConfig, random_outfit
from lifemask.data.wearables.wardrobe import Wardrobe
from lifemask.geometry.cameras import (
    FRONTAL_HEAD_TO_CAMERA,
    PerspectiveCamera,
    rigid_transform,
)
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.morphable.assets import asset_path, audit, is_allowed, read_card
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.rasterization import rasterize


@cache
def head() -> MorphableModel:
    return MorphableModel.from_pretrained()


@cache
def wardrobe() -> Wardrobe:
    return Wardrobe.from_pretrained(head())


def person(seed: int | None = None, **expression: float) -> FaceCoefficients:
    neutral = head().neutral()
    identity, weights = neutral.identity.clone(), neutral.expression.clone()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        identity = torch.randn(identity.shape, generator=generator).clamp(-2.5, 2.5) * 0.9
    for name, value in expression.items():
        weights[head().expression_names.index(name)] = value
    return FaceCoefficients(identity, weights, neutral.gaze, neutral.albedo)


@cache
def neutral_head(seed: int) -> torch.Tensor:
    return neutral_vertices(head(), person(seed))


def moved(name: str, **expression: float) -> torch.Tensor:
    """Return by how much an expression moves a wearable, metres."""
    model, item = head(), wardrobe()[name]
    rest, posed = person(), person(**expression)
    neutral = neutral_vertices(model, rest)
    before = worn(item, model, model.vertices(rest), neutral)
    return (worn(item, model, model.vertices(posed), neutral) - before).norm(dim=-1)


def dressed(outfit: Outfit, seed: int | None = None) -> Dressed:
    model, coefficients = head(), person(seed)
    vertices, neutral = model.vertices(coefficients), neutral_vertices(model, coefficients)
    return dress(outfit, wardrobe(), model, vertices, neutral, skin_colour=torch.full((3,), 0.4))


def test_all_wearables_are_licensed_small_and_credited() -> None:
    card = read_card("wearables/wearables")
    assert is_allowed(card.licence)
    assert "punkduck" in card.attribution
    assert all(is_allowed(source.licence) for source in card.sources)
    assert asset_path("wearables/wearables").stat().st_size <= 2_000_000
    assert not [problem for problem in audit() if "wearables" in problem]


def test_a_wearable_on_the_mean_head_lies_where_it_was_fitted() -> None:
    model = head()
    for item in wardrobe().wearables.values():
        placed = worn(item, model, model.mean, model.mean)
        torch.testing.assert_close(placed, item.position)


@pytest.mark.parametrize("kind", ["hair", "hat", "glasses", "torso", "cloth"])
def test_what_sits_on_the_skull_stays_when_the_jaw_opens(kind: str) -> None:
    for name in wardrobe().of_kind(kind):
        assert moved(name, jawOpen=1.0, mouthSmileLeft=1.0, browInnerUp=1.0).max() == 0


def test_brows_rise_with_the_skin_under_them() -> None:
    for name in wardrobe().of_kind("brow"):
        assert moved(name, browInnerUp=1.0).max() > 0.003
        assert moved(name, jawOpen=1.0).max() < 0.002


@pytest.mark.parametrize("name", wardrobe().of_kind("brow"))
def test_hair_of_brows_lies_between_the_points_above_and_below_it(name: str) -> None:
    brow = wardrobe()[name]
    picture = brow.picture[0][1]
    column = (brow.uv[:, 0] * picture.shape[1]).long().clamp(max=picture.shape[1] - 1)
    row = (brow.uv[:, 1] * picture.shape[0]).long().clamp(max=picture.shape[0] - 1)
    opacity = picture[row, column]
    embedding = head().dense478
    assert embedding is not None
    points = embedding.points(head().mean, head().triangles)
    # From the inner to the outer end, above and below the brow.
    rows = [points[list(k)].numpy() for k in ((336, 296, 334, 293), (285, 295, 282, 283))]
    across = brow.position[:, 0].abs().numpy()
    for inner, outer in ((0.018, 0.030), (0.030, 0.042), (0.042, 0.050)):
        here = ((across > inner) & (across < outer)) * opacity.numpy()
        height = np.average(brow.position[:, 1], weights=here)
        above, below = (
            np.average(np.interp(across, points[:, 0], points[:, 1]), weights=here)
            for points in rows
        )
        assert below - 0.0005 < height < above + 0.0005


def test_lashes_follow_a_blink_of_their_own_eye_alone() -> None:
    for name in wardrobe().of_kind("lashes"):
        left = wardrobe()[name].position[:, 0] > 0
        shift = moved(name, eyeBlinkLeft=1.0)
        assert shift[left].max() > 0.005
        assert shift[~left].max() < 1e-4


def test_anchors_share_their_vertices_weight() -> None:
    for item in wardrobe().wearables.values():
        torch.testing.assert_close(item.anchor_weight.sum(-1), torch.ones(len(item.position)))
        assert item.anchor.max() < len(head().mean)
        assert item.uv.min() >= 0
        assert item.uv.max() <= 1


def test_the_shoulders_of_all_people_begin_where_the_neck_ends() -> None:
    model, item = head(), wardrobe()["torso"]
    own = item.anchor_weight[:, 0] == 1
    coefficients = person(3)
    vertices = model.vertices(coefficients)
    placed = worn(item, model, vertices, neutral_vertices(model, coefficients))[own]
    distance = (placed - vertices[item.anchor[own, 0]]).norm(dim=-1)
    # The ring itself coincides with the neck; a copy of it and a flange lie inside.
    assert (distance < 2e-5).sum() == 42
    assert distance.max() < 0.02


@pytest.mark.parametrize("name", wardrobe().of_kind("hair"))
def test_no_scalp_pokes_through_hair_on_fifty_people(name: str) -> None:
    model, item = head(), wardrobe()[name]
    assert item.cover is not None
    triangles = model.triangles[: model.triangle_parts["skin"][1]]
    covered = item.cover[triangles].amin(1) > 0.5
    bare = total = 0
    for seed in range(50):
        neutral = neutral_head(seed)
        camera = looking_at_head(yaw=seed * 0.9, pitch=0.1 + 0.02 * (seed % 25), size=96)
        skin = rasterize(camera.project(neutral), triangles, camera.image_size)
        hair = rasterize(
            camera.project(worn(item, model, neutral, neutral)), item.triangles,
            camera.image_size, cull="none",
        )  # fmt: skip
        under = covered[skin.triangle_index.clamp(min=0)] & skin.mask
        total += int(under.sum())
        bare += int((under & (~hair.mask | (hair.depth > skin.depth))).sum())
    assert total > 20_000
    assert bare < 0.003 * total


def looking_at_head(*, yaw: float, pitch: float, size: int) -> PerspectiveCamera:
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ matrix_from_yaw_pitch_roll(
        torch.tensor(yaw), torch.tensor(pitch), torch.tensor(0.0)
    )
    centre = torch.tensor([0.0, 0.0, 1.5]) - rotation @ torch.tensor([0.0, 0.0, -0.07])
    return PerspectiveCamera(
        torch.tensor(size / 0.3 * 1.5),
        torch.full((2,), size / 2),
        rigid_transform(rotation, centre),
        (size, size),
    )


def test_the_scalp_takes_the_hairs_colour_only_under_hair() -> None:
    bald, short = dressed(Outfit(hair=None)), dressed(Outfit(hair="hair_short04"))
    albedo = torch.full((len(head().mean), 3), 0.5)
    torch.testing.assert_close(bald.skin_tinted(albedo), albedo)
    tinted = short.skin_tinted(albedo)
    crown, chin = head().mean[:, 1].argmax(), head().regions["lips"].argmax()
    torch.testing.assert_close(tinted[crown], short.hair_colour)
    torch.testing.assert_close(tinted[chin], albedo[chin])
    assert short.skin_ambient_visibility[crown] < 0.2


def test_hats_hide_what_would_reach_through_them() -> None:
    under = dressed(Outfit(hair="hair_afro01", hat="hat_fedora"))
    above = under.vertices[:, 1] > 0.10
    hair = (under.surface == 0) & above
    assert hair.any()
    assert under.opacity[hair].max() == 0


def test_turned_shoulders_leave_the_neck_in_place() -> None:
    straight = dressed(Outfit(hair=None))
    turned = dressed(Outfit(hair=None, torso_turn=0.6))
    shift = (turned.vertices - straight.vertices).norm(dim=-1)
    assert shift[straight.uv[:, 1] == 0].max() < 1e-6
    wide = (straight.vertices[:, 0].abs() > 0.2) & (straight.vertices[:, 1] < -0.25)
    assert shift[wide].min() > 0.05


@pytest.mark.parametrize("neckline", NECKLINES)
def test_cloth_covers_all_below_its_neckline(neckline: str) -> None:
    picture = fabric(Outfit(neckline=neckline, neckline_depth=1.0), seed=0)
    assert picture[1].min() >= 0
    assert picture[1, -1].min() == 1
    assert (picture[1].diff(dim=0) >= 0).all()


def test_equal_generators_give_equal_outfits() -> None:
    first = [random_outfit(np.random.default_rng([4, k])) for k in range(5)]
    again = [random_outfit(np.random.default_rng([4, k])) for k in range(5)]
    assert first == again
    assert len(set(first)) == 5


def test_outfits_come_as_often_as_the_configuration_says() -> None:
    config = OutfitConfig(glasses=0.5, sunglasses=1.0, hat=0.25, brows=1.0, bald=0.0)
    rng = np.random.default_rng(0)
    many = [random_outfit(rng, config, masculine=False) for _ in range(2000)]
    assert abs(np.mean([o.glasses for o in many]) - 0.5) < 0.05
    assert abs(np.mean([o.hat is not None for o in many]) - 0.25) < 0.04
    assert all(o.brows is not None and o.hair is not None for o in many)
    assert all(o.lens_opacity > 0.5 for o in many)
    assert {o.hair for o in many} == set(wardrobe().of_kind("hair"))
    names = {o.brows for o in many} | {o.lashes for o in many} - {None}
    assert names <= set(wardrobe().wearables)


def test_the_old_are_grey_and_the_dark_have_dark_hair() -> None:
    rng = np.random.default_rng(1)

    def mean(**who: float) -> np.ndarray:
        config = OutfitConfig(dyed=0.0)
        return np.mean([random_outfit(rng, config, **who).hair_colour for _ in range(400)], 0)

    young, old = mean(age_years=20.0), mean(age_years=80.0)
    assert old.min() > 1.5 * young.max()
    dark, light = mean(age_years=20.0, darkness=1.0), mean(age_years=20.0, darkness=0.0)
    assert dark.max() < 0.5 * light.max()


def test_a_wrong_probability_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"hat is 1\.5; outfits need a number from 0 to 1"):
        OutfitConfig(hat=1.5)


def test_clothes_without_skin_say_what_to_give() -> None:
    model = head()
    with pytest.raises(ValueError, match="give dress\\(\\) a skin_colour"):
        dress(Outfit(), wardrobe(), model, model.mean, model.mean)


def test_an_unknown_wearable_is_named_with_those_that_exist() -> None:
    with pytest.raises(KeyError, match=r"no wearable 'wig'.*hair_short01"):
        wardrobe()["wig"]


def test_a_jacket_opens_over_a_shirt_with_a_tie() -> None:
    suit = Outfit(jacket=0.1, tie=0.3, weave=0.0, neckline="high")
    luminance, opacity = fabric(suit, 0)
    front, side, below_neck, low = 0, 40, 12, 100
    assert opacity.min() == 1
    assert luminance[below_neck, 0] == pytest.approx(0.3, abs=0.02)
    assert luminance[below_neck, 8] == pytest.approx(1.0, abs=0.02)
    assert luminance[below_neck, side] == pytest.approx(0.1, abs=0.02)
    assert luminance[low, 20] == pytest.approx(0.1, abs=0.02)
    open_collar = fabric(Outfit(jacket=0.1, weave=0.0), 0)
    assert open_collar[1, 4, front] < 0.5
    assert fabric(Outfit(weave=0.0, neckline="high"), 0)[0].std() == 0
