"""No morph target at weight 1 pushes one part of a head through another, for twenty people.

Roots of teeth and of the tongue lie in the walls of the mouth, where nobody sees them. What counts is
what comes out of the face, and what lies in a lid, in an eyeball, or in the tongue.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.hair.rays import LENGTH, place
from lifemask.morphable import MorphableModel
from lifemask.morphable.eyeballs import Eyeballs, gaze_of_expressions, gaze_rotation
from lifemask.morphable.eyes import eyeball_radius
from lifemask.morphable.tongue import without_opening
from lifemask.pipeline.head_morphs import expression_morphs
from lifemask.registration.closest_points import TriangleSurface
from lifemask.rendering import rasterize

PEOPLE = 20
ALLOWED = 0.0005
"""Metres."""
CLOSED = "jawOpen + mouthClose"
CELL = 0.00025
"""Side of a cell of the map around the face, metres."""
FAR = 10.0


@dataclass(frozen=True)
class Person:
    """The neutral face and all targets of one person, as files have them."""

    vertices: dict[str, Float[Tensor, "V 3"]]
    """Head space, metres, by the name of the target at weight 1."""
    centres: Float[Tensor, "2 3"]
    """Of the eyeballs."""


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def people(model: MorphableModel) -> list[Person]:
    """Return the mean person and random ones."""
    return [person(model, seed) for seed in (None, *range(PEOPLE - 1))]


def person(model: MorphableModel, seed: int | None) -> Person:
    neutral = model.neutral()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        identity = torch.randn(neutral.identity.shape, generator=generator).clamp(-2.5, 2.5)
        neutral = replace(neutral, identity=identity)
    rest = model.vertices(neutral)
    moved = rest + expression_morphs(model, neutral, rest)
    vertices = {"neutral": rest, **dict(zip(model.expression_names, moved, strict=True))}
    vertices[CLOSED] = vertices["jawOpen"] + vertices.pop("mouthClose") - rest
    return Person(vertices, model.eyeball_centres(neutral.identity))


def report(what: str, depths: dict[str, float]) -> None:
    """Print the deepest contacts, and fail if one is too deep.

    Args:
        what: the two parts.
        depths: metres, by the name of the target.
    """
    worst = sorted(depths.items(), key=lambda item: -item[1])[:6]
    print(f"\n{what}: " + ", ".join(f"{name} {1000 * depth:.2f} mm" for name, depth in worst))
    assert worst[0][1] < ALLOWED, worst


def deepest(measured: list[tuple[str, float]]) -> dict[str, float]:
    """Return the largest depth of each target."""
    return {name: max(d for n, d in measured if n == name) for name, _ in measured}


def eyeballs_of(model: MorphableModel) -> Eyeballs:
    assert model.eyeballs is not None
    return model.eyeballs


def in_eyeball(
    model: MorphableModel, face: Person, name: str, rows: tuple[Tensor, Tensor]
) -> float:
    """Return how deep the deepest vertex lies in its eyeball, which looks where the target says."""
    gaze = torch.zeros(2, 2)
    if name in model.expression_names:
        gaze = gaze_of_expressions(model.expression_names)[model.expression_names.index(name)]
    depths: list[float] = []
    for side in (0, 1):
        offset = face.vertices[name][rows[side]] - face.centres[side]
        distance = offset.norm(dim=-1)
        axis = gaze_rotation(gaze)[side, :, 2]
        depths.append(float((eyeball_radius(offset @ axis / distance) - distance).max()))
    return max(depths)


def test_lids_stay_outside_eyeballs(model: MorphableModel, people: list[Person]) -> None:
    lids = eyeballs_of(model).lids
    rows = (lids[0], lids[1])
    names = [name for name in people[0].vertices if not name.startswith(("jaw", "tongue"))]
    measured = [(name, in_eyeball(model, face, name, rows)) for face in people for name in names]
    report("Lids in eyeballs", deepest(measured))


def test_lashes_stay_outside_eyeballs(model: MorphableModel, people: list[Person]) -> None:
    lashes = eyeballs_of(model).lashes
    left = model.mean[lashes, 0] > 0
    rows = (lashes[left], lashes[~left])
    names = [name for name in people[0].vertices if not name.startswith(("jaw", "tongue"))]
    measured = [(name, in_eyeball(model, face, name, rows)) for face in people for name in names]
    report("Lashes in eyeballs", deepest(measured))


def out_of_the_face(
    vertices: Float[Tensor, "V 3"], skin: Int[Tensor, "T 3"], rows: Int[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """Return how far vertices stand out of the skin, metres; at least 0.

    Seen from the axis of the head, a vertex must not be behind the last skin. In the opening between
    the lips there is none.
    """
    u, v, radius = place(vertices).unbind(-1)
    around, down = 2 * torch.pi * 0.1 * u / CELL, LENGTH * v / CELL
    points = torch.stack([around, down, FAR - radius], -1)
    low = points[rows].amin(0).floor() - 4
    width, height = (points[rows].amax(0) - low).ceil()[:2].int().tolist()
    points = (points - torch.cat([low[:2], torch.zeros(1)])).contiguous()
    drawn = rasterize(points, skin, (height + 4, width + 4), cull="none")
    # Next to the skin's edge, and where it is steep, the lowest of the cells around counts.
    found = torch.where(drawn.triangle_index >= 0, FAR - drawn.depth, torch.inf)[None, None]
    found = torch.nn.functional.max_pool2d(found, 3, stride=1, padding=1)[0, 0]
    column, row = points[rows, :2].long().unbind(-1)
    return (radius[rows] - found[row, column]).clamp(min=0)


def test_teeth_and_tongue_stay_in_the_face(model: MorphableModel, people: list[Person]) -> None:
    """Only `tongueOut` lets the tongue out."""
    skin = model.triangles[slice(*model.triangle_parts["skin"])]
    middle = model.mean[skin].mean(1)
    outside = (model.regions["mouth_bag"][skin] < 0.05).all(-1)
    skin = skin[outside & (middle[:, 1] < -0.02) & (middle[:, 2] > -0.06)]
    parts = ("teeth_upper", "teeth_lower", "tongue")
    rows = torch.cat([torch.arange(*model.vertex_parts[part]) for part in parts])
    is_tongue = rows >= model.vertex_parts["tongue"][0]
    teeth: list[tuple[str, float]] = []
    tongue: list[tuple[str, float]] = []
    for face in people:
        for name, vertices in face.vertices.items():
            if not name.startswith(("eye", "brow")):
                out = out_of_the_face(vertices, skin, rows)
                teeth.append((name, float(out[~is_tongue].max())))
                if name != "tongueOut":
                    tongue.append((name, float(out[is_tongue].max())))
    report("Teeth out of the face", deepest(teeth))
    report("Tongue out of the face", deepest(tongue))


def in_tongue(
    model: MorphableModel,
    vertices: Float[Tensor, "V 3"],
    rows: Int[np.ndarray, "N"],
    tongue: TriangleSurface,
) -> float:
    """Return how deep the deepest vertex lies in the tongue, metres; the tongue is a closed mesh."""
    places = vertices.double().numpy()
    ends = places[tongue.used_vertices]
    inside = (places[rows] > ends.min(0)).all(-1) & (places[rows] < ends.max(0)).all(-1)
    rows = rows[inside]
    if not len(rows):
        return 0.0
    normals = vertex_normals(vertices, torch.from_numpy(tongue.triangles)).numpy()
    near = tongue.closest(places, places[rows])
    corners = tongue.triangles[near.triangle_index]
    outwards = (near.barycentric[..., None] * normals[corners]).sum(1)
    side = np.sign(((places[rows] - near.position) * outwards).sum(-1))
    return float((-side * near.distance).max())


def test_the_tongue_touches_neither_teeth_nor_lips(
    model: MorphableModel, people: list[Person]
) -> None:
    tongue = TriangleSurface(
        model.triangles[slice(*model.triangle_parts["tongue"])].numpy(), len(model.mean)
    )
    lips = (model.regions["lips"] > 0.5) & (model.regions["mouth_bag"] < 0.5)
    teeth = torch.zeros_like(lips)
    for part in ("teeth_upper", "teeth_lower"):
        teeth[slice(*model.vertex_parts[part])] = True
    rows = (lips | teeth).nonzero().flatten().numpy()
    names = ("neutral", "jawForward", "jawLeft", "jawRight", "jawOpen", CLOSED, "tongueOut")
    measured = [
        (name, in_tongue(model, face.vertices[name], rows, tongue))
        for face in people
        for name in names
    ]
    report("Teeth and lips in the tongue", deepest(measured))


def test_blinks_close_the_lids_of_everybody_without_overlap(
    model: MorphableModel, people: list[Person]
) -> None:
    """Along the whole lid the upper one ends where the lower begins, and no eyeball shows."""
    eyeballs = eyeballs_of(model)
    on_lid = eyeballs.lid_share > 0.95
    gaps: list[float] = []
    overlaps: list[float] = []
    for face in people:
        for side, name in enumerate(("eyeBlinkLeft", "eyeBlinkRight")):
            vertices = face.vertices[name]
            margin = vertices[eyeballs.margin[side]]
            width = float(margin[:, 0].max() - margin[:, 0].min())
            height = (eyeballs.opening[on_lid] @ margin)[:, 1]
            gaps.append(float(height.max()) / width)
            overlaps.append(float(-height.min()) / width)
            assert shown_of_eyeball(model, vertices, side) == 0
    print(f"\nGap {max(gaps):.3f}, overlap {max(overlaps):.3f} of the width of the eye")
    assert max(gaps) < 0.05
    assert max(overlaps) < 0.02


def shown_of_eyeball(model: MorphableModel, vertices: Float[Tensor, "V 3"], side: int) -> int:
    """Return how many pixels of a tenth of a millimetre show an eyeball, seen from the front."""
    name = ("eyeball_left", "eyeball_right")[side]
    eyeball = slice(*model.triangle_parts[name])
    middle = vertices[model.triangles[eyeball].flatten()].mean(0)
    scale, size = 10_000.0, 400
    points = (vertices - middle) * torch.tensor([scale, -scale, -1.0])
    points = points + torch.tensor([size / 2, size / 2, 1.0])
    solid = model.triangles[: model.triangle_parts["lashes"][0]]
    shown = rasterize(points.contiguous(), solid, (size, size), cull="none").triangle_index
    return int(((shown >= eyeball.start) & (shown < eyeball.stop)).sum())


def test_weights_with_and_without_the_opening_make_the_same_lips(model: MorphableModel) -> None:
    """A file whose `tongueOut` opens the mouth shows the photo's lips, if the jaw is open enough."""
    names, neutral = model.expression_names, model.neutral()
    weights = torch.zeros(len(names))
    for name, weight in {
        "tongueOut": 0.5, "jawOpen": 0.3, "mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.3,
        "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.3,
    }.items():  # fmt: skip
        weights[names.index(name)] = weight
    rest = model.vertices(neutral)
    morphs = expression_morphs(model, neutral, rest)
    skin = slice(*model.vertex_parts["skin"])
    expected = torch.tensordot(weights, model.expression_basis, dims=1)[skin]
    moved = torch.tensordot(without_opening(weights, names), morphs, dims=1)[skin]
    near_mouth = model.regions["lips"][skin] > 0.5
    assert float((moved - expected)[near_mouth].abs().max()) < 1e-5
