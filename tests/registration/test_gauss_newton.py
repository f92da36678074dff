"""Registration has the right invariances, agrees with brute force, and finds known people."""

import numpy as np
import pytest
import torch

from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.registration import (
    DenseFitter,
    LandmarkPairs,
    LinearShape,
    RegistrationConfig,
    TriangleSurface,
    align,
    closest_barycentric,
    register,
    vertex_areas,
)

RNG = np.random.default_rng(2)


def bumpy_sheet(size: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Return a height field of 10 cm that faces +Z, and its triangles."""
    grid = np.linspace(-0.05, 0.05, size)
    x, y = np.meshgrid(grid, grid)
    z = 0.02 * np.cos(40 * x) * np.cos(30 * y) + 0.01 * x / 0.05 * y / 0.05
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    index = np.arange(size * size).reshape(size, size)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def shape_with_modes(modes: int = 4) -> LinearShape:
    vertices, triangles = bumpy_sheet()
    x, y = vertices[:, 0] / 0.05, vertices[:, 1] / 0.05
    basis = np.zeros((modes, len(vertices), 3))
    for k in range(modes):
        basis[k, :, 2] = 0.003 * np.cos((k + 1) * x + 0.5 * k) * np.cos(k * y)
        basis[k, :, 0] = 0.001 * np.sin((k + 1) * y)
    return LinearShape(vertices, basis, triangles)


def moved(
    points: np.ndarray, scale: float, rotation_vector: list[float], shift: list[float]
) -> np.ndarray:
    rotation = matrix_from_rotation_vector(
        torch.tensor(rotation_vector, dtype=torch.float64)
    ).numpy()
    return scale * points @ rotation.T + np.array(shift)


def pairs_at(shape: LinearShape, target: np.ndarray, every: int = 17) -> LandmarkPairs:
    chosen = np.arange(0, len(shape.triangles), every)
    return LandmarkPairs(
        triangle_index=chosen,
        barycentric=np.full((len(chosen), 3), 1 / 3),
        target=target[shape.triangles[chosen]].mean(1),
        weight=np.ones(len(chosen)),
        all_triangles=shape.triangles,
    )


def test_closest_point_of_a_triangle_is_nearer_than_every_sampled_point() -> None:
    for dimensions in (3, 7):
        point, a, b, c = RNG.normal(size=(4, 60, dimensions))
        weights = closest_barycentric(point, a, b, c)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-12)
        assert weights.min() >= -1e-12

        def at(u: np.ndarray, a=a, b=b, c=c) -> np.ndarray:
            return u[..., :1] * a + u[..., 1:2] * b + u[..., 2:] * c

        best = np.linalg.norm(at(weights) - point, axis=-1)
        for sample in RNG.dirichlet([0.5, 0.5, 0.5], size=400):
            other = np.linalg.norm(at(np.tile(sample, (60, 1))) - point, axis=-1)
            assert np.all(best <= other + 1e-12)


def test_closest_point_on_a_surface_equals_brute_force() -> None:
    vertices, triangles = bumpy_sheet()
    queries = RNG.uniform(-0.06, 0.06, size=(80, 3))
    found = TriangleSurface(triangles, len(vertices), neighbours=12).closest(vertices, queries)
    corners = vertices[triangles]
    weights = closest_barycentric(queries[:, None], *(corners[None, :, k] for k in range(3)))
    every = np.linalg.norm((weights[..., None] * corners).sum(-2) - queries[:, None], axis=-1)
    np.testing.assert_allclose(found.distance, every.min(1), atol=1e-12)
    np.testing.assert_allclose(
        (found.barycentric[..., None] * vertices[triangles[found.triangle_index]]).sum(1),
        found.position,
        atol=1e-15,
    )


def test_registration_recovers_pose_scale_and_identity() -> None:
    shape = shape_with_modes()
    truth = np.array([1.2, -0.8, 0.5, 0.9])
    person = shape.vertices(truth)
    target = moved(person, 1.13, [0.3, -0.2, 0.1], [0.4, -0.1, 0.7])
    fitted = register(
        shape,
        target,
        np.ones(len(target)),
        landmarks=pairs_at(shape, target),
        config=RegistrationConfig(prior=1e-4),
    )
    np.testing.assert_allclose(fitted.coefficients, truth, atol=0.02)
    assert fitted.scale == pytest.approx(1.13, abs=1e-3)
    assert np.linalg.norm(fitted.vertices - target, axis=1).max() < 1e-4


def test_moving_the_target_moves_the_registration_and_nothing_else() -> None:
    shape = shape_with_modes()
    target = shape.vertices(np.array([1.0, 0.5, -0.5, 0.2]))
    rotation_vector, shift = [0.0, 2.0, 0.3], [1.0, 0.0, -2.0]
    config = RegistrationConfig(iterations=6)
    elsewhere = moved(target, 1.0, rotation_vector, shift)
    # Centres of triangles: at vertices, rounding decides which triangle is closest.
    weights = np.ones(len(shape.triangles))
    first, second = (
        register(
            shape,
            place[shape.triangles].mean(1),
            weights,
            landmarks=pairs_at(shape, place),
            config=config,
        )
        for place in (target, elsewhere)
    )
    np.testing.assert_allclose(second.coefficients, first.coefficients, atol=1e-6)
    np.testing.assert_allclose(
        second.vertices, moved(first.vertices, 1.0, rotation_vector, shift), atol=1e-8
    )


def test_a_few_wild_points_hardly_move_the_fit() -> None:
    shape = shape_with_modes()
    target = shape.vertices(np.array([1.0, 0.5, -0.5, 0.2]))
    wild = target.copy()
    wild[::25, 2] += 0.08
    fitted = register(
        shape,
        wild,
        np.ones(len(wild)),
        landmarks=pairs_at(shape, target),
        config=RegistrationConfig(prior=1e-3, free_scale=False),
    )
    errors = np.linalg.norm(fitted.vertices - target, axis=1)
    assert errors.mean() < 3e-4


def test_points_behind_the_surface_are_ignored_when_normals_disagree() -> None:
    shape = shape_with_modes()
    target = shape.vertices(np.zeros(4))
    back = target - np.array([0, 0, 0.002])
    points = np.concatenate([target, back])
    normals = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    normals[len(target) :] *= -1
    config = RegistrationConfig(prior=1e-3, free_scale=False, landmark_weight=0.0)
    start = (1.0, np.eye(3), np.zeros(3))
    weights = np.ones(len(points))
    with_normals = register(shape, points, weights, normals=normals, start=start, config=config)
    without = register(shape, points, weights, start=start, config=config)

    def error(vertices: np.ndarray) -> float:
        return float(np.linalg.norm(vertices - target, axis=1).mean())

    assert error(with_normals.vertices) < 2e-5 < 5e-4 < error(without.vertices)


def test_registration_without_a_start_says_what_to_give() -> None:
    shape = shape_with_modes()
    with pytest.raises(ValueError, match="at least four landmark pairs"):
        register(shape, shape.mean, np.ones(len(shape.mean)))


def test_dense_fit_recovers_a_rotated_person_exactly() -> None:
    shape = shape_with_modes()
    truth = np.array([0.7, -1.1, 0.4, 0.3])
    target = moved(shape.vertices(truth), 1.0, [0.02, 0.05, -0.03], [0.3, 0.2, 0.1])
    fitter = DenseFitter(shape.mean, shape.basis, np.ones(len(shape.mean)), prior=1e-9)
    fitted = fitter.fit(target)
    np.testing.assert_allclose(fitted.coefficients, truth, atol=2e-3)
    assert fitted.distance.max() < 1e-5


def test_dense_fit_without_modes_is_rigid_alignment() -> None:
    shape = shape_with_modes()
    target = shape.vertices(np.array([1.0, 0.0, 0.0, 0.0]))
    weights = vertex_areas(shape.mean, shape.triangles)
    fitted = DenseFitter(shape.mean, shape.basis[:0], weights).fit(target)
    _, rotation, translation = align(shape.mean, target, weights)
    expected = np.linalg.norm(shape.mean @ rotation.T + translation - target, axis=1)
    np.testing.assert_allclose(fitted.distance, expected, atol=1e-12)


def test_vertex_areas_add_up_to_the_surface() -> None:
    vertices, triangles = bumpy_sheet()
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    total = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert vertex_areas(vertices, triangles).sum() == pytest.approx(total)
