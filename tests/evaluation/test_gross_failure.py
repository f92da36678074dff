"""A gross failure is a missing face, another person's, a wrong place or a head upside down."""

import numpy as np
import pytest

from lifemask.evaluation.metrics.gross_failure import is_upside_down, outcome
from lifemask.evaluation.metrics.landmark_error import EAR_LOBES

FACE = np.stack(np.meshgrid(np.linspace(0, 60, 3), np.linspace(0, 60, 7)), -1).reshape(21, 2)
"""21 points whose box is 60 pixels wide and high, so that one pixel is 1/60 of the face's size."""


@pytest.mark.parametrize(("shift", "expected"), [(29.9, "found"), (30.1, "misplaced")])
def test_an_error_over_half_of_the_face_is_gross(shift: float, expected: str) -> None:
    # The middle of the moved face, at 30 + 0.6 and at 30 + 0.6 of the shift, stays in the box.
    moved = FACE + shift * np.array([0.6, 0.8])
    assert outcome([moved], FACE) == expected


def test_no_face_and_a_distant_one_are_misses() -> None:
    assert outcome([], FACE) == "missed"
    assert outcome([FACE + 200.0], FACE) == "missed"


def test_only_the_nearest_face_counts() -> None:
    assert outcome([FACE + 300.0, FACE + 1.0, FACE - 90.0], FACE) == "found"


def test_a_face_on_another_person_is_the_neighbours() -> None:
    assert outcome([FACE + 201.0], FACE, (FACE - 100.0, FACE + 200.0)) == "neighbour"


def test_a_head_upside_down_is_misplaced_however_small_its_error() -> None:
    assert outcome([60.0 - FACE], FACE) == "misplaced"
    # Half of the size, upside down: the mean distance is 25 pixels, less than half of the face.
    assert outcome([45.0 - FACE / 2], FACE) == "misplaced"


@pytest.mark.parametrize(("degrees", "expected"), [(0, False), (89, False), (91, True)])
def test_upside_down_starts_at_ninety_degrees(degrees: float, expected: bool) -> None:
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    annotated = FACE.copy()
    annotated[[*EAR_LOBES, 0, 5]] = np.nan
    assert is_upside_down(FACE @ rotation.T + 500.0, annotated) == expected
