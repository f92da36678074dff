"""Gross failures: no face where one is, or one at a wrong place, of a wrong size or upside down."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.metrics.landmark_error import EAR_LOBES, aflw21_error

GROSS_PERCENT = 50.0
"""Error of the points, in percent of the annotated box, above which a face is a gross failure."""

Outcome = Literal["found", "missed", "neighbour", "misplaced"]
"""found: no gross failure; missed: no reported face lies on the person; neighbour: none does, and the
nearest is another person's; misplaced: a face lies on the person, but its points are grossly
wrong."""

_SCORED = [i for i in range(21) if i not in EAR_LOBES]


def outcome(
    faces: list[Float[np.ndarray, "21 2"]],
    annotated: Float[np.ndarray, "21 2"],
    neighbours: tuple[Float[np.ndarray, "21 2"], ...] = (),
) -> Outcome:
    """Return what became of a person in a photo, from the reported face nearest to it.

    Args:
        faces: points of all reported faces, pixels.
        annotated: the person's points, NaN where not annotated.
        neighbours: points of other people.
    """
    if not faces:
        return "missed"
    errors = [_error(face, annotated) for face in faces]
    nearest = faces[int(np.argmin(errors))]
    if min(errors) <= GROSS_PERCENT and not is_upside_down(nearest, annotated):
        return "found"
    if any(_error(nearest, other) <= GROSS_PERCENT for other in neighbours):
        return "neighbour"
    return "misplaced" if _overlaps(nearest, annotated) else "missed"


def is_upside_down(face: Float[np.ndarray, "21 2"], annotated: Float[np.ndarray, "21 2"]) -> bool:
    """Return whether the points are turned by more than 90 degrees against the annotated ones.

    The best rotation between two sets of points in the plane has the sign of its cosine from the
    sum of the scalar products of the centred points.
    """
    known = [i for i in _SCORED if np.isfinite(annotated[i, 0])]
    a, b = (p[known] - p[known].mean(0) for p in (face, annotated))
    return bool((a * b).sum() < 0)


def _error(face: Float[np.ndarray, "21 2"], annotated: Float[np.ndarray, "21 2"]) -> float:
    return float(aflw21_error(face[None], annotated[None])[0])


def _overlaps(face: Float[np.ndarray, "21 2"], annotated: Float[np.ndarray, "21 2"]) -> bool:
    """Return whether the middle of the face lies in the box of the annotated points."""
    middle = face.mean(0)
    return bool(((middle >= np.nanmin(annotated, 0)) & (middle <= np.nanmax(annotated, 0))).all())
