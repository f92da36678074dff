"""The shipped head has correct linear modes, eyes, mouth, texture layout and plausible sizes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import triangle_areas
from lifemask.morphable import AlbedoModel, FaceCoefficients, MorphableModel
from lifemask.morphable.eyeballs import gaze_of_expressions
from lifemask.morphable.eyes import eyeball_radius
from lifemask.morphable.head_file import HEAD_FOLDER
from lifemask.rendering import rasterize

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


def face(
    model: MorphableModel,
    *,
    seed: int | None = None,
    gaze: tuple[float, float] = (0.0, 0.0),
    **expression: float,
) -> FaceCoefficients:
    """Return the mean or a random person, with expressions and the same rotation of both eyes."""
    neutral = model.neutral()
    weights = neutral.expression.clone()
    for name, weight in expression.items():
        sides = [name, f"{name}Left", f"{name}Right"]
        for side in set(sides) & set(model.expression_names):
            weights[model.expression_names.index(side)] = weight
    identity = neutral.identity
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        identity = torch.randn(identity.shape, generator=generator).clamp(-2.5, 2.5)
    return FaceCoefficients(identity, weights, torch.tensor([gaze, gaze]), neutral.albedo)


def eyeballs_and_gap(model: MorphableModel, coefficients: FaceCoefficients) -> Tensor:
    """Return the distance of the lid vertices (2, L) outside their eyeballs, metres."""
    eyeballs = model.eyeballs
    assert eyeballs is not None
    vertices = model.vertices(coefficients)
    centres = model.eyeball_centres(coefficients.identity)
    yaw, pitch = coefficients.gaze.unbind(-1)
    axis = torch.stack(
        [yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1
    ).unsqueeze(1)
    offset = vertices[eyeballs.lids] - centres.unsqueeze(1)
    distance = offset.norm(dim=-1)
    return distance - eyeball_radius((offset * axis).sum(-1) / distance)


def what_shows(model: MorphableModel, coefficients: FaceCoefficients, parts: set[str]) -> float:
    """Return the share of pixels of a frontal view of the lower face that show these parts."""
    vertices = model.vertices(coefficients)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[:3, 3] = torch.tensor([0.0, -0.08, 0.6])
    camera = PerspectiveCamera(torch.tensor(1600.0), torch.tensor([128.0, 128.0]), pose, (256, 256))
    fragments = rasterize(camera.project(vertices), model.triangles, camera.image_size, cull="none")
    seen = torch.zeros(len(model.triangles) + 1, dtype=torch.bool)
    for name in parts - {"mouth_bag"}:
        start, stop = model.triangle_parts[name]
        seen[start:stop] = True
    if "mouth_bag" in parts:
        inside = model.regions["mouth_bag"][model.triangles].min(-1).values > 0.5
        seen[:-1] |= inside
    return float(seen[fragments.triangle_index].float().mean())


def test_reading_and_shapes(model: MorphableModel) -> None:
    vertices = model.vertices(model.neutral())
    assert vertices.shape == model.mean.shape
    assert model.triangles.max() < len(vertices)
    assert model.uv_triangles.max() < len(model.uv)
    assert len(model.triangles) == len(model.uv_triangles) == 2 * len(model.quads)
    assert (vertices - model.mean).norm(dim=-1).max() < 0.001


def test_fewer_modes_are_the_first_ones(model: MorphableModel) -> None:
    small = MorphableModel.from_pretrained(identity_modes=7)
    torch.testing.assert_close(small.identity_basis, model.identity_basis[:7])
    with pytest.raises(ValueError, match="0 to 100"):
        MorphableModel.from_pretrained(identity_modes=101)


def test_batches_give_the_same_faces_as_one_by_one(model: MorphableModel) -> None:
    singles = [face(model, seed=k, gaze=(0.1 * k, 0.2), jawOpen=0.3 * k) for k in range(3)]
    batch = FaceCoefficients(
        *(torch.stack([getattr(s, n) for s in singles]) for n in vars(singles[0]))
    )
    together = model.vertices(batch)
    for k, single in enumerate(singles):
        torch.testing.assert_close(together[k], model.vertices(single), atol=1e-6, rtol=0)


def test_identity_modes_are_orthogonal_and_ordered(model: MorphableModel) -> None:
    # The metric of tools/build_face_model.py: skin area, the face twenty times the rest.
    area = torch.zeros(len(model.mean)).index_add(
        0,
        model.triangles.reshape(-1),
        triangle_areas(model.mean, model.triangles).repeat_interleave(3),
    )
    start, stop = model.vertex_parts["skin"]
    weight = (area * (model.regions["face"] + 0.05 * model.regions["skin"]))[start:stop]
    flat = (model.identity_basis[:, start:stop] * (weight / weight.sum()).sqrt()[:, None]).flatten(
        1
    )
    gram = flat @ flat.T
    variance = gram.diagonal()
    correlation = gram / (variance[:, None] * variance[None]).sqrt()
    assert (correlation - torch.eye(len(gram))).abs().max() < 0.02
    assert (variance[1:] <= variance[:-1] * 1.02).all()


def test_mirrored_coefficients_give_the_mirrored_face(model: MorphableModel) -> None:
    assert model.mirror is not None
    mirrored = model.identity_basis[:, model.mirror] * FLIP
    sign = (mirrored * model.identity_basis).sum((1, 2)).sign()
    torch.testing.assert_close(
        mirrored, model.identity_basis * sign[:, None, None], atol=2e-6, rtol=0
    )
    generator = torch.Generator().manual_seed(1)
    original = face(model, seed=5, gaze=(0.2, -0.1))
    expression = 0.6 * torch.rand(52, generator=generator)
    names = model.expression_names
    swap = [
        names.index(n.replace("Left", "?").replace("Right", "Left").replace("?", "Right"))
        for n in names
    ]
    swapped = model.expression_basis[swap][:, model.mirror] * FLIP
    torch.testing.assert_close(swapped, model.expression_basis, atol=1e-5, rtol=0)
    straight = FaceCoefficients(original.identity, expression, original.gaze, original.albedo)
    other = FaceCoefficients(
        original.identity * sign,
        expression[swap],
        original.gaze.flip(0) * torch.tensor([-1.0, 1.0]),
        original.albedo,
    )
    expected = model.vertices(straight)[model.mirror] * FLIP
    torch.testing.assert_close(model.vertices(other), expected, atol=2e-5, rtol=0)


def test_gradients_match_finite_differences() -> None:
    model = MorphableModel.from_pretrained(identity_modes=4).double()
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(model.mean.shape, generator=generator, dtype=torch.float64)
    base = face(model, gaze=(0.1, -0.2), eyeBlink=0.7, eyeLookDown=0.4)

    def value(identity: Tensor, expression: Tensor, gaze: Tensor) -> Tensor:
        coefficients = FaceCoefficients(identity, expression, gaze, base.albedo)
        return (model.vertices(coefficients) * probe).sum()

    point = [base.identity.double(), base.expression.double(), base.gaze.double()]
    point = [p.requires_grad_() for p in point]
    gradients = torch.autograd.grad(value(*point), point)
    for which, index in ((0, (2,)), (1, (8,)), (1, (10,)), (2, (0, 0)), (2, (1, 1))):
        step = torch.zeros_like(point[which])
        step[index] = 1e-6
        ahead = [p + step if k == which else p for k, p in enumerate(point)]
        behind = [p - step if k == which else p for k, p in enumerate(point)]
        numeric = (value(*ahead) - value(*behind)) / 2e-6
        assert gradients[which][index] == pytest.approx(numeric.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3, 4, 5, 6, 7])
def test_blink_closes_every_eye(model: MorphableModel, seed: int | None) -> None:
    eyeballs = model.eyeballs
    assert eyeballs is not None
    on_lid = eyeballs.lid_share > 0.95
    for blink, low, high in ((0.0, 0.003, 0.016), (1.0, -0.0005, 0.0005)):
        vertices = model.vertices(face(model, seed=seed, eyeBlink=blink))
        for margin in eyeballs.margin:
            height = (eyeballs.opening[on_lid] @ vertices[margin])[:, 1]
            assert height.max() < high
            assert height.max() > low


@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.5, 0.0), (-0.4, 0.3), (0.0, -0.5)])
def test_lids_stay_outside_the_eyeballs(model: MorphableModel, gaze: tuple[float, float]) -> None:
    eyeballs = model.eyeballs
    assert eyeballs is not None
    strict = eyeballs.lid_weight == 1
    for seed in (None, 0, 1, 2):
        for expression in ({}, {"eyeBlink": 1.0}, {"eyeSquint": 1.0}, {"eyeWide": 1.0}):
            gap = eyeballs_and_gap(model, face(model, seed=seed, gaze=gaze, **expression))
            assert gap[:, strict].min() > 0.0001


def test_lids_rest_on_the_eyeballs_of_random_people(model: MorphableModel) -> None:
    eyeballs = model.eyeballs
    assert eyeballs is not None
    for seed in range(8):
        coefficients = face(model, seed=seed)
        vertices = model.vertices(coefficients)
        centres = model.eyeball_centres(coefficients.identity)
        for side in (0, 1):
            offset = vertices[eyeballs.margin[side]] - centres[side]
            distance = offset.norm(dim=-1)
            gap = distance - eyeball_radius(offset[:, 2] / distance)
            middle = offset[:, 0].abs() < 0.005
            assert gap[middle].max() < 0.0025


@pytest.mark.parametrize(
    "expression",
    [
        {},
        {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
        {"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5, "eyeSquintLeft": 1.0, "cheekSquintRight": 1.0},
        {"eyeWideLeft": 1.0, "eyeLookDownRight": 1.0},
    ],
)
def test_lashes_grow_from_the_lids_of_everybody(
    model: MorphableModel, expression: dict[str, float]
) -> None:
    """The lid's border is the ring where eyes open; its rim, with the lashes, lies 2 mm in front."""
    eyeballs = model.eyeballs
    assert eyeballs is not None
    roots = eyeballs.lash_root.unique()
    assert len(roots) == 50
    assert len(eyeballs.lash_anchor.unique()) == 50
    at_rest = model.mean[eyeballs.lashes] - model.mean[eyeballs.lash_root]
    side = (model.mean[eyeballs.lashes, 0] < 0).long()
    for seed in range(20):
        coefficients = face(model, seed=seed, gaze=(0.0, 0.0), **expression)
        vertices = model.vertices(coefficients)
        to_lids = torch.cdist(vertices[roots], vertices[eyeballs.lids.flatten()]).amin(-1)
        assert float(to_lids.max()) < 0.0001
        to_margin = torch.cdist(vertices[roots], vertices[eyeballs.margin.flatten()]).amin(-1)
        assert float(to_margin.max()) < 0.006
        if not expression:
            grown = vertices[eyeballs.lashes] - vertices[eyeballs.lash_root]
            torch.testing.assert_close(grown, at_rest, atol=1e-5, rtol=0)
        offset = vertices[eyeballs.lashes] - model.eyeball_centres(coefficients.identity)[side]
        distance = offset.norm(dim=-1)
        assert float((distance - eyeball_radius(offset[:, 2] / distance)).min()) > 0.0003


def test_gaze_turns_eyeballs_about_their_centres(model: MorphableModel) -> None:
    eyeballs = model.eyeballs
    assert eyeballs is not None
    straight, turned = face(model, seed=3), face(model, seed=3, gaze=(0.3, 0.2))
    centres = model.eyeball_centres(straight.identity)
    before, after = model.vertices(straight), model.vertices(turned)
    moved = torch.zeros(len(before), dtype=torch.bool)
    for side in (0, 1):
        rows = eyeballs.vertices[side]
        moved[rows] = True
        a, b = before[rows] - centres[side], after[rows] - centres[side]
        torch.testing.assert_close(a.norm(dim=-1), b.norm(dim=-1), atol=1e-6, rtol=0)
        pupil = b[a[:, 2].argmax()]
        pupil = pupil / pupil.norm()
        expected = torch.tensor(
            [math.sin(0.3) * math.cos(0.2), math.sin(0.2), math.cos(0.3) * math.cos(0.2)]
        )
        torch.testing.assert_close(pupil, expected, atol=1e-4, rtol=0)
    moved[eyeballs.lids] = True
    moved[eyeballs.lashes] = True
    torch.testing.assert_close(before[~moved], after[~moved])


def test_expressions_turn_each_eyeball_the_named_way(model: MorphableModel) -> None:
    eyeballs, names = model.eyeballs, model.expression_names
    assert eyeballs is not None
    gaze = gaze_of_expressions(names, angle_radians=0.5)
    turned = [name for name, each in zip(names, gaze, strict=True) if bool(each.any())]
    assert turned == [name for name in names if name.startswith("eyeLook")]
    ways = {"OutLeft": (0, 0, 1), "InLeft": (0, 0, -1), "OutRight": (1, 0, -1)}
    ways |= {"UpLeft": (0, 1, 1), "DownRight": (1, 1, -1)}
    for name, (side, axis, sign) in ways.items():
        looking = replace(model.neutral(), gaze=gaze[names.index(f"eyeLook{name}")])
        rows = eyeballs.vertices
        pupils = model.mean[rows][..., 2].argmax(-1)
        shift = (model.vertices(looking) - model.mean)[rows][[0, 1], pupils]
        assert sign * shift[side, axis] > 0.005
        assert shift[1 - side].norm() < 1e-6


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3, 4, 5])
def test_lips_meet_at_rest_and_part_when_the_jaw_opens(
    model: MorphableModel, seed: int | None
) -> None:
    inner = {"teeth_upper", "teeth_lower", "tongue", "mouth_bag"}
    rest = what_shows(model, face(model, seed=seed), inner)
    opened = what_shows(model, face(model, seed=seed, jawOpen=0.7), inner)
    closed = what_shows(model, face(model, seed=seed, jawOpen=0.7, mouthClose=0.7), inner)
    assert rest < 0.0008
    assert opened > 0.02
    # The artist closed the mean person's mouth; others come near.
    assert closed < opened * (0.1 if seed is None else 0.4)


def test_smile_shows_upper_teeth_only(model: MorphableModel) -> None:
    smile = face(model, mouthSmile=0.8, jawOpen=0.15)
    assert what_shows(model, smile, {"teeth_upper"}) > 0.002
    assert what_shows(model, smile, {"teeth_lower"}) < 0.0005


def test_jaw_moves_lower_teeth_rigidly_and_leaves_the_upper(model: MorphableModel) -> None:
    moved = model.vertices(face(model, jawOpen=1.0)) - model.vertices(model.neutral())
    upper, lower = (slice(*model.vertex_parts[f"teeth_{jaw}"]) for jaw in ("upper", "lower"))
    assert moved[upper].abs().max() < 1e-6
    assert moved[lower][:, 1].max() < -0.005
    before = torch.cdist(model.mean[lower], model.mean[lower])
    after = torch.cdist(model.mean[lower] + moved[lower], model.mean[lower] + moved[lower])
    assert (before - after).abs().max() < 0.0002


def test_every_expression_moves_the_region_of_its_name(model: MorphableModel) -> None:
    places = {
        "brow": model.regions["brows"],
        "eye": model.regions["eyes"],
        "mouth": model.regions["lips"],
        "jaw": model.regions["lips"],
        "tongue": model.regions["tongue"],
    }
    for name, shape in zip(model.expression_names, model.expression_basis, strict=True):
        length = shape.norm(dim=-1)
        assert length.max() > 0.001, name
        for start, region in places.items():
            if name.startswith(start):
                assert length[region > 0.5].max() > 0.3 * length.max(), name


def test_eye_look_shapes_do_not_move_the_eyeballs(model: MorphableModel) -> None:
    eyeballs = model.eyeballs
    assert eyeballs is not None
    assert model.expression_basis[:, eyeballs.vertices.reshape(-1)].abs().max() == 0


def test_people_have_plausible_sizes(model: MorphableModel) -> None:
    distances = []
    for seed in range(60):
        centres = model.eyeball_centres(face(model, seed=seed).identity)
        distances.append(float((centres[0] - centres[1]).norm()))
    assert 0.061 < np.mean(distances) < 0.066
    assert min(distances) > 0.052
    assert max(distances) < 0.076
    centres = model.eyeball_centres(model.neutral().identity)
    torch.testing.assert_close(centres.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    skin = model.mean[slice(*model.vertex_parts["skin"])]
    nose = skin[skin[:, 2].argmax()]
    assert abs(nose[0]) < 0.001
    assert -0.06 < nose[1] < -0.02
    width = skin[(skin[:, 1].abs() < 0.02), 0].abs().max() * 2
    assert 0.13 < width < 0.21


def test_regions_are_weights_of_the_right_parts(model: MorphableModel) -> None:
    regions = model.regions
    for name, weight in regions.items():
        assert weight.min() >= 0, name
        assert weight.max() == 1, name
        if model.mirror is not None and not name.startswith("eyeball"):
            assert (weight - weight[model.mirror]).abs().max() < 0.02, name
    y = model.mean[:, 1]
    centre = {name: float((weight * y).sum() / weight.sum()) for name, weight in regions.items()}
    order = ["neck", "lips", "eyes", "brows", "scalp"]
    assert [centre[name] for name in order] == sorted(centre[name] for name in order)
    start, stop = model.vertex_parts["skin"]
    assert regions["skin"][stop:].max() == 0
    assert regions["skin"][start:stop].mean() > 0.5
    overlap = regions["face"] * regions["neck"] + regions["face"] * regions["scalp"]
    assert overlap.max() < 0.3


def count_hits(uv: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """Return how many triangles cover each texel centre, with a simple slow loop."""
    hits = np.zeros((size, size), int)
    for a, b, c in uv[triangles] * size:
        low = np.maximum(np.floor(np.minimum(np.minimum(a, b), c) - 0.5), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(np.maximum(a, b), c) + 0.5), size).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)

        def edge(p: np.ndarray, q: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> np.ndarray:
            return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])

        sides = np.stack([edge(a, b), edge(b, c), edge(c, a)])
        inside = (sides > 1e-6).all(0) | (sides < -1e-6).all(0)
        hits[low[1] : high[1], low[0] : high[0]] += inside
    return hits


def test_texture_layout_shares_no_texel(model: MorphableModel) -> None:
    hits = count_hits(model.uv.numpy().astype(float), model.uv_triangles.numpy(), 512)
    assert hits.max() == 1
    assert hits.mean() > 0.7


def test_texture_layout_mirrors_about_the_middle(model: MorphableModel) -> None:
    assert model.mirror is not None
    # Vertices on a seam have several places: compare sets of triangles instead of vertices.
    key = {tuple(sorted(t)): k for k, t in enumerate(model.triangles.tolist())}
    partner = [key[tuple(sorted(model.mirror[t].tolist()))] for t in model.triangles]
    centre = model.uv[model.uv_triangles].mean(1)
    expected = centre[partner] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(centre, expected, atol=2e-5, rtol=0)


def test_face_is_upright_large_and_finely_resolved(model: MorphableModel) -> None:
    face_triangles = model.regions["face"][model.triangles].min(-1).values > 0.9
    uv = model.uv[model.uv_triangles[face_triangles]]
    width, height = (uv.amax((0, 1)) - uv.amin((0, 1))).tolist()
    assert width > 0.45
    assert height > 0.45
    left, right = (
        model.mean[model.triangles[face_triangles]].mean(1)[:, 0] * s > 0.02 for s in (1, -1)
    )
    assert uv.mean(1)[left, 0].min() > 0.5 > uv.mean(1)[right, 0].max()
    surface = triangle_areas(model.mean, model.triangles[face_triangles]).sum()
    edges = uv[:, 1:] - uv[:, :1]
    texels = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).abs().sum() / 2
    millimetres_per_texel = 1000 * float((surface / texels).sqrt()) / 2048
    assert millimetres_per_texel < 0.17


def test_triangles_face_outwards(model: MorphableModel) -> None:
    for name in ("eyeball_left", "eyeball_right"):
        rows = slice(*model.vertex_parts[name])
        a, b, c = model.mean[model.triangles[slice(*model.triangle_parts[name])]].unbind(1)
        outward = torch.linalg.cross(b - a, c - a)
        assert (outward * ((a + b + c) / 3 - model.mean[rows].mean(0))).sum(-1).min() > 0
    a, b, c = model.mean[model.triangles[slice(*model.triangle_parts["skin"])]].unbind(1)
    nose = ((a + b + c) / 3)[:, 2].argmax()
    assert torch.linalg.cross(b - a, c - a)[nose, 2] > 0


def test_mirror_is_an_involution_that_maps_the_mean_to_itself(model: MorphableModel) -> None:
    assert model.mirror is not None
    assert torch.equal(model.mirror[model.mirror], torch.arange(len(model.mean)))
    torch.testing.assert_close(model.mean[model.mirror] * FLIP, model.mean, atol=2e-6, rtol=0)


def test_head_files_are_small() -> None:
    total = sum(path.stat().st_size for path in Path(HEAD_FOLDER).iterdir())
    assert total < 12e6


def test_models_without_eyeballs_have_no_eyeball_centres() -> None:
    plain = MorphableModel(
        mean=torch.zeros(3, 3),
        identity_basis=torch.zeros(1, 3, 3),
        expression_basis=torch.ones(1, 3, 3),
        expression_names=("jawOpen",),
        triangles=torch.tensor([[0, 1, 2]]),
        uv=torch.zeros(3, 2),
        uv_triangles=torch.tensor([[0, 1, 2]]),
    )
    half = FaceCoefficients(torch.zeros(1), torch.tensor([0.5]), torch.zeros(2, 2), torch.zeros(0))
    torch.testing.assert_close(plain.vertices(half), torch.full((3, 3), 0.5))
    assert plain.landmarks68 is None
    with pytest.raises(ValueError, match="no eyeballs"):
        plain.eyeball_centres(torch.zeros(1))


def test_names_and_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="2 expressions came with 1 names"):
        MorphableModel(
            mean=torch.zeros(3, 3),
            identity_basis=torch.zeros(1, 3, 3),
            expression_basis=torch.zeros(2, 3, 3),
            expression_names=("jawOpen",),
            triangles=torch.tensor([[0, 1, 2]]),
            uv=torch.zeros(3, 2),
            uv_triangles=torch.tensor([[0, 1, 2]]),
        )


@pytest.fixture(scope="module")
def albedo(model: MorphableModel) -> AlbedoModel:
    assert model.albedo is not None
    return model.albedo


def region_colour(model: MorphableModel, texture: Tensor, name: str) -> Tensor:
    """Return the mean linear RGB of the triangles that are completely inside a region."""
    inside = model.regions[name][model.triangles].min(-1).values > 0.9
    places = (model.uv[model.uv_triangles[inside]].mean(1) * texture.shape[-1]).long()
    return texture[:, places[:, 1], places[:, 0]].mean(1)


def test_tone_spans_light_to_very_dark_evenly(model: MorphableModel, albedo: AlbedoModel) -> None:
    tones = []
    for sigma in (-2.0, -1.0, 0.0, 1.0, 2.0):
        coefficients = model.neutral().albedo
        coefficients[albedo.mode_names.index("melanin")] = sigma
        tones.append(region_colour(model, albedo.texture(coefficients), "face"))
    green = torch.stack(tones)[:, 1]
    assert green[0] > 0.45
    assert green[-1] < 0.05
    steps = (green[:-1] / green[1:]).log()
    assert steps.max() / steps.min() < 1.5
    for tone in tones:
        assert tone[0] > tone[1] > tone[2]


def test_brows_are_dark_and_eyes_stay_white(model: MorphableModel, albedo: AlbedoModel) -> None:
    dark = model.neutral().albedo
    dark[albedo.mode_names.index("melanin")] = 2.0
    mean, black = albedo.texture(model.neutral().albedo), albedo.texture(dark)
    assert region_colour(model, mean, "brows")[1] < 0.85 * region_colour(model, mean, "face")[1]
    for texture in (mean, black):
        assert region_colour(model, texture, "eyeball_left").min() > 0.3
        assert region_colour(model, texture, "lips")[0] > region_colour(model, texture, "lips")[1]


def test_textures_are_symmetric_and_in_range(albedo: AlbedoModel) -> None:
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(2, len(albedo.basis_log), generator=generator)
    texture = albedo.texture(coefficients)
    assert texture.shape == (2, 3, 256, 256)
    assert texture.min() > 0
    assert texture.max() <= 1
    torch.testing.assert_close(texture, texture.flip(-1), atol=0.02, rtol=0.05)


def test_fine_texture_agrees_with_the_coarse_one(albedo: AlbedoModel) -> None:
    coefficients = torch.zeros(len(albedo.basis_log))
    fine = albedo.fine_texture(coefficients, 1024)
    coarse = torch.nn.functional.avg_pool2d(fine[None], 4)[0]
    assert (coarse - albedo.texture(coefficients)).abs().mean() < 0.01


def test_lashes_are_cut_out(model: MorphableModel, albedo: AlbedoModel) -> None:
    opacity = albedo.fine_opacity(2048)
    assert opacity.max() == 1
    triangles = slice(*model.triangle_parts["lashes"])
    places = (model.uv[model.uv_triangles[triangles]].mean(1) * 2048).long()
    assert 0.05 < opacity[0, places[:, 1], places[:, 0]].mean() < 0.7
    assert (opacity[0, 200:1800, 300:1700] == 1).all()
