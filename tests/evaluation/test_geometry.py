"""The targets of the geometry benchmark, and the landmarks of the default head."""

import itertools

import numpy as np
import pytest
import torch

from lifemask.evaluation.geometry import (
    Correspondence,
    IctTarget,
    outer_triangles,
    vertex_errors,
    visible_vertices,
)
from lifemask.evaluation.polygons import inside_polygon
from lifemask.morphable import MorphableModel
from lifemask.registration import LinearShape, Registration, TriangleSurface, vertex_areas
from lifemask.registration.surface_landmarks import SurfaceLandmarks

IBUG_PAIRS = ((36, 45), (39, 42), (48, 54), (31, 35), (17, 26), (0, 16), (4, 12), (60, 64))


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained(identity_modes=2)


def sphere(radius: float = 0.08, rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    polar = np.linspace(0.05, np.pi - 0.05, rows)
    around = np.linspace(0, 2 * np.pi, 2 * rows, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], axis=-1)
    index = np.arange(p.size).reshape(p.shape)
    following = np.roll(index, -1, axis=1)
    top, bottom = slice(None, -1), slice(1, None)
    one = np.stack([index[top], index[bottom], following[top]], -1).reshape(-1, 3)
    two = np.stack([following[top], index[bottom], following[bottom]], -1).reshape(-1, 3)
    return unit.reshape(-1, 3) * radius + [0, -0.03, 0], np.concatenate([one, two])


def test_one_view_sees_the_near_half_of_a_sphere_and_two_see_it_all() -> None:
    vertices, triangles = sphere()
    front = visible_vertices(vertices, triangles, ((0, 0),))
    depth = vertices[:, 2]
    assert front[depth > 0.02].all()
    assert not front[depth < -0.005].any()
    both = visible_vertices(vertices, triangles, ((0, 0), (180, 0)))
    assert both[np.abs(depth) > 0.02].all()


def test_points_inside_a_polygon_are_found_by_the_even_odd_rule() -> None:
    corners = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)
    points = np.array([[1, 0.5], [3, 1], [2, 2], [5, 1], [0.2, 3]], float)
    assert inside_polygon(points, corners).tolist() == [True, True, False, False, True]


def test_vertex_error_of_the_head_on_its_own_people_is_what_its_modes_leave_out() -> None:
    """A target of three modes has no error with three modes; with two, the error is one mode's size."""
    vertices, triangles = sphere()
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(3, len(vertices), 3)) * 1e-3
    shape = LinearShape(vertices, basis, triangles)
    people = generator.normal(size=(4, 3))
    unseen = SurfaceLandmarks(np.full((478, 3), np.nan), np.full(478, np.nan), np.zeros(478, int))
    ict = IctTarget(
        mean=vertices,
        identity_basis=basis,
        triangles=triangles,
        normals=vertices,
        weights=vertex_areas(vertices, triangles),
        face=np.arange(len(vertices)),
        head=np.arange(len(vertices)),
        landmarks68=vertices[:68],
        landmarks=unseen,
    )
    surface = TriangleSurface(triangles, len(vertices)).closest(vertices, vertices)
    still = Registration(1.0, np.eye(3), np.zeros(3), np.zeros(3), vertices, surface)
    correspondence = Correspondence(ict.face, ict.weights, surface, still)
    errors = vertex_errors(shape, correspondence, ict, people, (2, 3))
    missing = np.linalg.norm(people[:, 2, None, None] * basis[2], axis=-1).mean(0)
    expected = float(np.average(missing, weights=ict.weights))
    assert errors[3] < 0.01 * expected
    assert errors[2] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["landmarks68", "landmarks68_outline"])
def test_landmarks_are_symmetric_and_on_the_outside(model: MorphableModel, name: str) -> None:
    embedding = getattr(model, name)
    points = embedding.points(model.mean, model.triangles)
    for right, left in IBUG_PAIRS:
        mirrored = points[left] * torch.tensor([-1.0, 1.0, 1.0])
        assert torch.linalg.norm(points[right] - mirrored) < 1e-3, (right, left)
    outer = set(outer_triangles(model).tolist())
    assert set(embedding.triangle_index.tolist()) <= outer


@pytest.mark.parametrize("name", ["landmarks68", "landmarks68_outline"])
def test_landmarks_lie_where_their_names_say(model: MorphableModel, name: str) -> None:
    assert model.dense478 is not None
    ibug = getattr(model, name).points(model.mean, model.triangles)
    dense = model.dense478.points(model.mean, model.triangles)
    # Subject's right is -X; nose tip foremost; brows over eyes over nose over mouth over chin.
    assert ibug[36, 0] < ibug[39, 0] < 0 < ibug[42, 0] < ibug[45, 0]
    assert ibug[:, 2].argmax() == 30
    heights = [ibug[index, 1] for index in (19, 37, 30, 51, 57, 8)]
    assert all(upper > lower for upper, lower in itertools.pairwise(heights))
    # The network's own numbers: 33 and 263 outer corners of the eyes, 1 nose, 61 and 291 mouth.
    for number, point in ((33, 36), (263, 45), (61, 48), (291, 54)):
        assert torch.linalg.norm(dense[number] - ibug[point]) < 0.006, number
    centres = model.eyeball_centres(model.neutral().identity)
    for iris, side in ((468, 1), (473, 0)):
        assert torch.linalg.norm(dense[iris, :2] - centres[side, :2]) < 1e-3


def test_jaw_points_slide_on_skin_from_their_own_place(model: MorphableModel) -> None:
    assert model.contours is not None
    assert model.landmarks68_outline is not None
    points = model.landmarks68_outline.points(model.mean, model.triangles)
    assert len(model.contours) == 17
    for row, point in zip(model.contours, points[:17], strict=True):
        line = row[row >= 0]
        assert len(line) >= 8
        distance = torch.linalg.norm(model.mean[line] - point, dim=-1)
        assert distance.argmin() == 0
        assert distance[0] < 0.004
        assert distance.max() < 0.075
        assert (model.regions["skin"][line] > 0.5).all()
