"""Known differences of shape give known distances and probabilities."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lifemask.evaluation.metrics.identity import same_person_auc, shape_distances


def test_rigid_motion_costs_nothing_and_scale_does() -> None:
    shape = np.random.default_rng(0).normal(size=(200, 3))
    moved = Rotation.from_rotvec([0.3, -1.1, 2.0]).apply(shape) + np.array([1, 2, 3])
    distances = shape_distances(np.stack([shape, moved, 1.1 * moved]))
    assert distances[0, 1] == pytest.approx(0, abs=1e-6)
    size = np.sqrt(((shape - shape.mean(0)) ** 2).sum(1).mean())
    assert distances[0, 2] == pytest.approx(0.1 * size)


def test_a_mirrored_shape_is_another_shape() -> None:
    shape = np.random.default_rng(0).normal(size=(50, 3))
    distances = shape_distances(np.stack([shape, shape * (-1, 1, 1)]))
    assert distances[0, 1] > 0.1


def test_distances_match_the_aligned_difference() -> None:
    shapes = np.random.default_rng(2).normal(size=(2, 80, 3))
    a, b = (s - s.mean(0) for s in shapes)
    rotation = Rotation.align_vectors(b, a)[0]
    expected = np.sqrt(((rotation.apply(a) - b) ** 2).sum(1).mean())
    assert shape_distances(shapes)[0, 1] == pytest.approx(expected)


def test_auc_counts_ordered_pairs_and_halves_ties() -> None:
    people = np.array([0, 0, 1, 1])
    distances = np.array([[0, 1, 2, 3], [1, 0, 4, 0.5], [2, 4, 0, 2], [3, 0.5, 2, 0]], dtype=float)
    # Same: 1 and 2. Different: 2, 3, 4, 0.5. Wins of 1: three of four; of 2: two and a tie.
    assert same_person_auc(distances, people) == pytest.approx((3 + 2.5) / 8)


def test_equal_shapes_for_everyone_are_chance() -> None:
    assert same_person_auc(np.zeros((6, 6)), np.array([0, 0, 1, 1, 2, 2])) == 0.5


def test_a_photo_drawn_twice_is_no_pair() -> None:
    people = np.array([0, 0, 1, 1])
    distances = np.abs(np.subtract.outer([0.0, 1.0, 1.4, 3.0], [0.0, 1.0, 1.4, 3.0]))
    rows = np.array([0, 1, 0, 1, 2, 3])
    repeated = same_person_auc(distances[np.ix_(rows, rows)], people[rows], rows)
    # Distance 1 within person 0 (four pairs of drawn photos) beats 3 of 4 distances to the other
    # person, distance 1.6 within person 1 beats 2 of 4.
    assert repeated == pytest.approx((4 * 3 / 4 + 2 / 4) / 5)
