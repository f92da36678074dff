"""Synthetic faces are the same in every process, and their truth agrees with the picture."""

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest
import torch
from rotation_angles import yaw_pitch_roll_from_matrix
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.data.synthetic.degradations import photograph, sample_degradations
from lifemask.data.synthetic.expressions import sample_expression
from lifemask.data.synthetic.generator import composite
from lifemask.data.synthetic.lights import LightRig
from lifemask.data.synthetic.people import sample_person
from lifemask.data.synthetic.scenes import Caster, Picture, light_on_vertices
from lifemask.data.synthetic.skin import SkinPainter
from lifemask.data.wearables.drawing import Layers
from lifemask.geometry.tensors import named_tensors
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS

SMALL = SyntheticConfig(size=96, texture_size=64)


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(SMALL)


@pytest.fixture(scope="module")
def batch(faces: SyntheticFaces) -> FaceBatch:
    return faces.batch(3, 0, 12)


def _tensors(batch: FaceBatch) -> list[Tensor]:
    return list(named_tensors(batch).values())


def test_the_same_seed_and_index_give_the_same_photos(
    faces: SyntheticFaces, batch: FaceBatch
) -> None:
    again = SyntheticFaces(SMALL).batch(3, 0, 12)
    for a, b in zip(_tensors(batch), _tensors(again), strict=True):
        assert torch.equal(a, b)


def test_photos_are_counted_through_batches_of_any_size(
    faces: SyntheticFaces, batch: FaceBatch
) -> None:
    small = faces.batch(3, 2, 3)
    for a, b in zip(_tensors(batch), _tensors(small), strict=True):
        if a.dtype.is_floating_point and a.shape[2:] != batch.photo.shape[2:]:
            assert torch.allclose(a[6:9], b, atol=1e-3)
    assert torch.equal(batch.person[6:9], small.person)
    # Sums in another order may round to the neighbouring of 256 values.
    assert (batch.photo[6:9] - small.photo).abs().mean() < 1e-3


def test_other_seeds_and_numbers_are_other_people(faces: SyntheticFaces, batch: FaceBatch) -> None:
    other = faces.batch(4, 0, 2)
    assert not torch.allclose(other.photo, batch.photo[:2])
    assert len(torch.cat([other.person, batch.person]).unique()) == 14


def test_landmarks_are_the_projected_head(faces: SyntheticFaces, batch: FaceBatch) -> None:
    truth, model = batch.truth, faces.model
    assert truth is not None
    assert model.landmarks68_outline is not None
    vertices = model.vertices(truth.face.coefficients)
    points = model.landmarks68_outline.points(vertices, model.triangles)
    points = truth.face.camera.project(points)
    assert torch.allclose(points[..., :2], batch.landmarks68, atol=1e-3)


def test_visible_points_lie_where_the_depth_says(faces: SyntheticFaces, batch: FaceBatch) -> None:
    truth, model = batch.truth, faces.model
    assert truth is not None
    assert model.dense478 is not None
    points = model.dense478.points(model.vertices(truth.face.coefficients), model.triangles)
    projected = truth.face.camera.project(points)
    within = ((projected[..., :2] > 1) & (projected[..., :2] < SMALL.size - 1)).all(-1)
    seen = truth.visible478 & within
    assert 0.3 < seen.float().mean() < 0.95
    x, y = projected[..., 0].long(), projected[..., 1].long()
    rows = torch.arange(len(x))[:, None].expand_as(x)
    depth = truth.face.depth[rows[seen], y[seen], x[seen]]
    error = (depth - projected[..., 2][seen]).abs()
    assert error[depth > 0].median() < 0.001
    assert (depth > 0).float().mean() > 0.97
    # Where the skin itself hides them, not a hand or hair.
    bare = batch.skin[rows, y.clamp(0, SMALL.size - 1), x.clamp(0, SMALL.size - 1)] > 0.5
    hidden = ~truth.visible478 & within & bare
    behind = projected[..., 2][hidden] - truth.face.depth[rows[hidden], y[hidden], x[hidden]]
    assert behind.median() > 0.005


def test_what_stands_between_lamp_and_head_throws_a_shadow(faces: SyntheticFaces) -> None:
    head = (faces.model.mean - faces.material.middle)[None]
    normals, triangles = torch.nn.functional.normalize(head, dim=-1), faces.material.triangles
    up = torch.tensor([[0.0, 1.0, 0.0]])
    light = LightRig(torch.zeros(1, 9, 3), up, torch.ones(1, 3), torch.full((1,), 0.05))

    def lit(height: float, *, backend: Literal["numba", "torch"]) -> Tensor:
        side = 0.18
        corners = [(-side, -side), (side, -side), (side, 0.0), (-side, 0.0)]
        plate = torch.tensor([[x, height, z] for x, z in corners])
        caster = Caster(plate, torch.tensor([[0, 1, 2], [0, 2, 3]]))
        return light_on_vertices(
            head, normals, triangles, light, casters=[caster], backend=backend
        )[0]

    crown = (head[0, :, 1] > 0.08) & (head[0, :, 2].abs() > 0.02)
    back = head[0, :, 2] < 0
    below, above = lit(-0.3, backend="torch"), lit(0.25, backend="torch")
    assert below[crown].mean() > 0.8
    assert above[crown & back].max() < 0.2
    assert torch.equal(above[crown & ~back], below[crown & ~back])
    assert (lit(0.25, backend="numba") - above).abs().mean() < 1e-3


def test_no_background_shows_between_a_head_and_what_touches_it() -> None:
    """A pixel is half head and half collar; another is half head and a quarter under hair."""
    head = torch.tensor([0.2, 0.1, 0.1]).view(1, 3, 1, 1)
    cloth = torch.tensor([0.0, 0.0, 0.3]).view(1, 3, 1, 1)
    white, one = torch.ones(1, 3, 1, 1), torch.ones(1, 1, 1)
    picture = Picture(head / 2, one / 2, one, one.long(), one, torch.zeros_like(head), head, one)
    collar = Layers(cloth / 2, one / 2, one)
    assert torch.allclose(composite(picture, collar, 0 * one, white), (head + cloth) / 2)
    hair = Layers(cloth / 4, one / 4, one)
    seen = composite(picture, hair, one / 4, white)
    assert torch.allclose(seen, head / 4 + cloth / 4 + white / 2)


def test_normals_are_unit_where_there_is_depth_and_zero_elsewhere(batch: FaceBatch) -> None:
    truth = batch.truth
    assert truth is not None
    assert truth.normals is not None
    assert truth.albedo is not None
    length = truth.normals.norm(dim=1)
    there = truth.face.depth > 0
    assert torch.allclose(length[there], torch.ones_like(length[there]), atol=1e-4)
    assert (length[~there] == 0).all()
    assert (truth.albedo[:, 0][there] > 0).all()


def test_yaw_reaches_both_sides_and_stays_within_its_limit() -> None:
    from lifemask.data.synthetic.cameras import head_to_camera, sample_view

    views = [sample_view(np.random.default_rng(k), SMALL) for k in range(2000)]
    matrices = head_to_camera(views)[:, :3, :3] * torch.tensor([1.0, -1, -1])[:, None]
    yaw, _, _ = yaw_pitch_roll_from_matrix(matrices)
    degrees = torch.rad2deg(yaw)
    assert degrees.abs().max() <= 100.001
    assert (degrees > 60).float().mean() > 0.07
    assert (degrees < -60).float().mean() > 0.07
    assert (degrees.abs() < 30).float().mean() > 0.5


def test_skin_tones_are_drawn_evenly() -> None:
    from lifemask.data.synthetic.people import sample_person

    people = [
        sample_person(np.random.default_rng(k), SMALL, identity_modes=4, albedo_modes=("melanin",))
        for k in range(1000)
    ]
    melanin = np.array([p.albedo[0] for p in people])
    # Light skin, with little melanin, is as frequent as dark skin.
    edges = [-1.6, -0.6, 0.06, 0.9, 2.6]
    counts, _ = np.histogram(melanin, edges)
    assert counts.min() > 200


def test_men_and_women_differ_and_together_vary_as_everyone() -> None:
    rng = np.random.default_rng(4)
    config = SyntheticConfig(identity_spread=0.8, identity_limit=4.0)
    people = [
        sample_person(rng, config, identity_modes=60, albedo_modes=("melanin",)) for _ in range(600)
    ]
    shapes = np.stack([person.identity for person in people])
    masculine = np.array([person.masculine for person in people])
    # The first mode is mostly size: women have it, men lack it.
    between = shapes[~masculine, 0].mean() - shapes[masculine, 0].mean()
    assert 1.2 < between < 1.7
    # Spread is 0.8 times 0.6, 1 or 1.25.
    everyone = 0.8 * math.sqrt(0.2 * 0.36 + 0.6 + 0.2 * 1.5625)
    assert np.abs(shapes.std(0) / everyone - 1).max() < 0.15


def test_modelled_brows_take_the_place_of_painted_ones(faces: SyntheticFaces) -> None:
    assert faces.model.albedo is not None
    modes = faces.model.albedo.mode_names
    darkness = modes.index("brow_darkness")
    people = [
        sample_person(np.random.default_rng(k), SMALL, identity_modes=4, albedo_modes=modes)
        for k in range(60)
    ]
    modelled = [p.albedo[darkness] for p in people if p.outfit.brows is not None]
    painted = [p.albedo[darkness] for p in people if p.outfit.brows is None]
    assert len(modelled) > len(painted) > 0
    assert np.ptp(modelled) == 0
    assert modelled[0] < min(painted)
    # What is painted is what the truth says, and pale brows are lighter than dark ones.
    painter = SkinPainter(faces.model, 128, "cpu")
    dark = dataclasses.replace(people[0], albedo=people[0].albedo.copy())
    dark.albedo[darkness] = 2.0
    pale = dataclasses.replace(people[0], albedo=people[0].albedo.copy())
    pale.albedo[darkness] = modelled[0]
    brighter = (painter.albedo([pale]) / painter.albedo([dark]))[0].mean(0)
    assert brighter.max() > 1.5
    assert (brighter > 1.02).float().mean() < 0.1


def test_faces_at_rest_have_the_habits_of_portraits_and_closed_eyes_do_not_widen() -> None:
    rng = np.random.default_rng(5)
    faces = np.stack([sample_expression(rng, neutral=1.0) for _ in range(400)])
    assert faces.min() >= 0
    assert faces.max() <= 1
    wide, blink = (ARKIT_EXPRESSIONS.index(f"{name}Left") for name in ("eyeWide", "eyeBlink"))
    is_open = faces[:, blink] < 0.3
    assert 0.1 < faces[is_open, wide].mean() < 0.3
    assert faces[faces[:, blink] > 0.8, wide].max() < 0.15


def test_sharpening_overshoots_at_an_edge_and_nowhere_else() -> None:
    scene = torch.full((3, 224, 224), 0.2)
    scene[..., 112:] = 0.4
    plain = sample_degradations(np.random.default_rng(0), SyntheticConfig(degradations=0.0))
    sharp = photograph(scene, dataclasses.replace(plain, sharpening=0.8))
    assert sharp[..., 112].min() > 0.42
    assert sharp[..., 111].max() < 0.18
    far = [*range(106), *range(118, 224)]
    assert torch.allclose(sharp[..., far], photograph(scene, plain)[..., far])


def test_folded_lids_are_lightened_and_nothing_else(faces: SyntheticFaces) -> None:
    painter = faces._painter
    person = dataclasses.replace(
        faces._person(0, 0), albedo=np.zeros(17, np.float32), paint={}, spots=np.zeros((0, 7))
    )
    painted = painter.albedo([person])[0]
    assert faces.model.albedo is not None
    own = faces.model.albedo.fine_texture(torch.zeros(17), painter.resolution)
    change = (painted / own).log().mean(0)
    assert change.max() > 0.05
    assert change.min() > -0.04
    assert change[painter.layers["socket"] < 0.01].abs().max() < 0.04


def test_clips_keep_the_person_and_change_the_occasion(faces: SyntheticFaces) -> None:
    clips = faces.clips(5, 0, 2, 3)
    truth = clips.truth
    assert truth is not None
    assert clips.photo.shape[:2] == (2, 3)
    face = truth.face
    assert face.albedo_map is not None
    for same in (face.coefficients.identity, face.albedo_map.values, clips.person):
        assert torch.equal(same[:, 0], same[:, 1])
        assert torch.equal(same[:, 0], same[:, 2])
    for differs in (
        face.coefficients.expression, face.camera.world_to_camera, face.light.coefficients
    ):  # fmt: skip
        assert not torch.allclose(differs[:, 0], differs[:, 2])
    still = faces.batch(5, 0, 2)
    assert torch.allclose(still.landmarks68, clips.landmarks68[:, 0], atol=0.01)


def test_skin_folds_only_where_the_expression_folds_it(faces: SyntheticFaces) -> None:
    from lifemask.data.synthetic.wrinkles import FAMILIES, wrinkle_weights
    from lifemask.morphable.arkit import ARKIT_EXPRESSIONS

    expression = np.zeros(52, np.float32)
    expression[ARKIT_EXPRESSIONS.index("browInnerUp")] = 1
    rest, folded = wrinkle_weights(expression, 70)
    names = [family.name for family in FAMILIES]
    assert folded[names.index("forehead")].min() > 0.3
    assert np.delete(folded, names.index("forehead"), 0).max() == 0
    young, _ = wrinkle_weights(expression, 20)
    assert young.max() == 0
    assert rest.max() > 0.3

    wink = np.zeros(52, np.float32)
    wink[ARKIT_EXPRESSIONS.index("eyeSquintLeft")] = 1
    _, folded = wrinkle_weights(wink, 40)
    assert folded[:, 0].max() > 0
    assert folded[:, 1].max() == 0


def test_without_wrinkles_or_pores_the_skin_is_smooth() -> None:
    config = dataclasses.replace(SMALL, wrinkles=0.0, pores=0.0, moles=0.0, blemishes=0.0)
    truth = SyntheticFaces(config).batch(0, 0, 2).truth
    assert truth is not None
    assert truth.face.displacement_map is not None
    assert truth.face.displacement_map.values.abs().max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 8}, "size is 8"),
        ({"samples": 0}, "samples is 0"),
        ({"grey": 1.5}, "probability"),
        ({"yaw_limit_degrees": 180.0}, "at most 120"),
        ({"distance_range_metres": (3.0, 0.3)}, "nearer one first"),
        ({"degradations": -1.0}, "0 or more"),
    ],
)
def test_nonsense_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_negative_numbers_are_refused(faces: SyntheticFaces) -> None:
    with pytest.raises(ValueError, match="Seed and index start at 0"):
        faces.batch(-1, 0, 2)
    with pytest.raises(ValueError, match="size 0"):
        faces.batch(0, 0, 0)


def test_jpeg_of_quality_100_changes_nothing_visible_and_of_10_much() -> None:
    from lifemask.data.synthetic.degradations import jpeg

    rows = torch.linspace(0, 1, 40)
    image = torch.stack(
        [rows.expand(40, 40), rows[:, None].expand(40, 40), rows.flip(0).expand(40, 40)]
    )
    assert (jpeg(image, 100, half_colour=False) - image).abs().max() < 0.01
    worse = (jpeg(image, 10, half_colour=True) - image).abs().mean()
    assert 0.01 < worse < 0.2


def test_a_lamp_in_harmonics_shades_like_a_clamped_cosine() -> None:
    from lifemask.data.synthetic.lights import LightRig

    direction = torch.nn.functional.normalize(torch.tensor([0.4, 0.5, 0.7]), dim=0)
    rig = LightRig(torch.zeros(9, 3), direction, torch.ones(3), torch.tensor(0.1))
    points = torch.nn.functional.normalize(
        torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    shaded = rig.nearest_harmonics().shade(points)[:, 0]
    cosine = (points @ direction).clamp(min=0)
    # Ramamoorthi and Hanrahan: nine harmonics hold over 99 % of the energy.
    assert ((shaded - cosine) ** 2).mean() < 0.01 * (cosine**2).mean()
    assert math.isclose(shaded.mean(), cosine.mean(), abs_tol=0.005)


def test_plain_torch_draws_the_same_as_compiled_kernels() -> None:
    config = dataclasses.replace(SMALL, degradations=0.0)
    compiled = SyntheticFaces(config, backend="numba").batch(2, 0, 3)
    plain = SyntheticFaces(config, backend="torch").batch(2, 0, 3)
    assert (compiled.photo - plain.photo).abs().max() < 0.02  # two of 256 values
    assert (compiled.photo - plain.photo).abs().mean() < 1e-5
    assert compiled.truth is not None
    assert plain.truth is not None
    assert torch.equal(compiled.truth.visible478, plain.truth.visible478)
    expected = named_tensors(plain.truth)
    for name in ("face.depth", "normals", "albedo"):
        difference = named_tensors(compiled.truth)[name] - expected[name]
        assert difference.abs().max() < 1e-4


def test_compiled_cameras_store_the_same_photo(faces: SyntheticFaces, batch: FaceBatch) -> None:
    for k in range(24):
        degradations = sample_degradations(np.random.default_rng(k), SMALL)
        compiled = photograph(batch.photo[k % 12], degradations, backend="numba")
        plain = photograph(batch.photo[k % 12], degradations, backend="torch")
        # A sum in another order may round a value of 256, or a wave of a block, to its neighbour.
        assert (compiled - plain).abs().mean() < 1e-3
        assert ((compiled - plain).abs() > 1e-5).float().mean() < 0.02
