"""Known displacements of points and surfaces give known errors."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull, Delaunay
from scipy.spatial.transform import Rotation

from lifemask.evaluation.metrics.box_error import box_error, box_size
from lifemask.evaluation.metrics.shape_error import corresponding_error, similarity, surface_error
from lifemask.registration import TriangleSurface


def bumpy_surface(count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (metres) and triangles of a face-sized bumpy sheet."""
    generator = np.random.default_rng(0)
    xy = generator.uniform(-0.08, 0.08, (count, 2))
    depth = 0.05 * np.cos(18 * xy[:, 0]) * np.cos(14 * xy[:, 1]) + 0.01 * np.sin(60 * xy[:, 0])
    return np.column_stack([xy, depth]), Delaunay(xy).simplices.astype(np.int64)


def moved(points: np.ndarray) -> np.ndarray:
    """Return points scaled, rotated and translated."""
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    return 1.2 * points @ turn.T + [0.1, -0.2, 0.9]


def test_a_shift_is_its_length_over_the_size_of_the_sparse_box() -> None:
    landmarks = np.random.default_rng(0).uniform([10, 10], [50, 100], (68, 2))
    landmarks[:2] = (10, 10), (50, 100)
    assert box_size(landmarks) == pytest.approx(60)
    dense = np.random.default_rng(1).uniform(0, 200, (500, 2))
    assert box_error(dense + np.array([3, 4]), dense, landmarks) == pytest.approx(100 * 5 / 60)


def test_scale_rotation_and_translation_cost_nothing() -> None:
    vertices, triangles = bumpy_surface()
    there = moved(vertices)
    np.testing.assert_allclose(similarity(vertices, there)(vertices), there, atol=1e-12)
    assert corresponding_error(vertices, there) == pytest.approx(0, abs=1e-12)
    surface = TriangleSurface(triangles, len(vertices))
    start = similarity(vertices[:40], there[:40])
    assert surface_error(vertices, surface, there, start=start) == pytest.approx(0, abs=1e-12)


def test_noise_of_corresponding_points_is_its_own_size() -> None:
    vertices, _ = bumpy_surface()
    generator = np.random.default_rng(3)
    wrong = vertices + 0.001 * generator.normal(size=vertices.shape)
    # The mean length of three Gaussian coordinates is sigma times sqrt(8 / pi).
    expected = 0.001 * np.sqrt(8 / np.pi)
    assert corresponding_error(moved(wrong), vertices) == pytest.approx(expected, rel=0.05)


def test_sliding_is_an_error_of_points_but_not_of_the_surface() -> None:
    """A rotated sphere has the same surface, although all points move."""
    k = np.arange(3000) + 0.5
    height, angle = 1 - 2 * k / 3000, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    sphere = 0.1 * np.column_stack([ring * np.cos(angle), ring * np.sin(angle), height])
    surface = TriangleSurface(ConvexHull(sphere).simplices.astype(np.int64), len(sphere))
    slid = sphere @ Rotation.from_rotvec([0, 0, 0.1]).as_matrix().T
    # Half of the points slide one way and half the other, which no rigid motion undoes.
    mixed = np.where(
        sphere[:, 2:] > 0, slid, sphere @ Rotation.from_rotvec([0, 0, -0.1]).as_matrix().T
    )
    assert corresponding_error(mixed, sphere) > 0.005
    assert surface_error(slid, surface, sphere, start=lambda p: p) < 3e-4


def test_a_surface_pushed_off_by_steps_is_that_far() -> None:
    """Steps of 2 mm up and down alternate in broad stripes, so no similarity transform removes them."""
    x, y = (c.ravel() for c in np.meshgrid(*[np.linspace(-0.08, 0.08, 81)] * 2))
    flat = np.column_stack([x, y, np.zeros_like(x)])
    triangles = Delaunay(flat[:, :2]).simplices.astype(np.int64)
    stripes = np.where(np.floor(x / 0.02) % 2 == 0, 0.002, -0.002)
    wrong = flat + np.column_stack([np.zeros_like(x), np.zeros_like(x), stripes])
    surface = TriangleSurface(triangles, len(flat))
    inside = np.abs(np.mod(x, 0.02) - 0.01) < 0.006
    error = surface_error(wrong, surface, flat[inside], start=lambda p: p)
    assert error == pytest.approx(0.002, rel=0.05)
