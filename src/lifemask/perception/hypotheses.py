"""How far points in a photo convince as a face, and which of several hypotheses is the best.

A hypothesis is a region of the photo that may show a face. The landmark network gives points for any
region, also for an ear, a neck or a head upside down. But only where the region shows a face upright
does it give the same points on the region and on its mirror image.
"""

import math
from dataclasses import dataclass

from lifemask.perception.landmarks import DensePoints, FaceMeshTopology, head_angles

CLEAR = 0.0125
"""Doubt up to which a face is clear, and no other hypothesis is tried. Nine of ten faces have less."""

ACCEPTED = 0.025
"""Doubt up to which a weak candidate of the detector is a face. In 187 scenes from AFLW's training
crops, points with less doubt were all right (error under 15 %) where the closer look scored over
0.5."""

LOST, SURELY_LOST = 0.05, 0.09
"""Doubt over which points are not a face, after a detection of low and of high score. Over the second,
the error is usually more than half of the face's size; between them it depends on the detector."""

SURE = 0.75
"""Scores of the detector above this are high."""

UNLIKELY_LOGIT = -10.0
"""Presence logits below this are rare even on profiles."""

ADVANTAGE = 0.5
"""Share of the first hypothesis' doubt that another one must stay below to replace it."""

STEEP_ROLL = math.radians(120.0)
"""Heads that are turned further in the photo are rare: their evidence must be stronger."""


@dataclass(frozen=True)
class Settled:
    """Points found on a region and on its mirror image."""

    dense: DensePoints
    """Both sets of points."""
    disagreement: float
    """Mean distance of the points from their mean, in units of the face's extent."""


def doubt(settled: Settled) -> float:
    """Return how far points are from convincing: 0 is best; see `CLEAR` and `ACCEPTED`."""
    logit = float(settled.dense.presence_logit.mean())
    return settled.disagreement * (2.0 if logit < UNLIKELY_LOGIT else 1.0)


def is_lost(settled: Settled, score: float) -> bool:
    """Return whether the points of a detection with that score are not a face."""
    return doubt(settled) > (SURELY_LOST if score > SURE else LOST)


def best_hypothesis(first: Settled, others: list[Settled], topology: FaceMeshTopology) -> Settled:
    """Return the first hypothesis, or another one with less than half of its doubt.

    On profiles and dark photos all doubts are high, and small differences mean nothing. The doubt of
    a head upside down counts double.

    Args:
        first: what the photo itself or the detector suggests.
        others: what closer looks suggest.
        topology: tells the direction of the heads.
    """

    def cost(settled: Settled) -> float:
        rotation = topology.head_rotation(settled.dense.points.mean(0))
        steep = abs(float(head_angles(rotation).roll_radians)) > STEEP_ROLL
        return doubt(settled) * (2.0 if steep else 1.0)

    best = min(others, key=cost, default=first)
    return best if cost(best) < ADVANTAGE * cost(first) else first


def certainty(doubt: float) -> float:
    """Return a factor of the confidence: 1 for clear faces, under 0.05 for what is no face."""
    return math.exp(-((max(0.0, doubt - CLEAR) / (LOST - CLEAR) * 1.8) ** 2))
