"""Doubt grows with the disagreement of a face and its mirror image; what does not convince is no face."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.perception import FaceDetection, FacePerception
from lifemask.perception.detector import FaceDetector, Search
from lifemask.perception.hypotheses import (
    CLEAR,
    LOST,
    UNLIKELY_LOGIT,
    Settled,
    best_hypothesis,
    certainty,
    doubt,
    is_lost,
)
from lifemask.perception.landmarks import DensePoints, FaceMeshTopology, turn


def settled(
    disagreement: float, *, logit: float = 10.0, points: torch.Tensor | None = None
) -> Settled:
    if points is None:
        points = torch.zeros(478, 3)
    dense = DensePoints(points.expand(2, 478, 3), torch.tensor([logit, logit]), torch.zeros(2))
    return Settled(dense, disagreement)


def test_doubt_is_the_disagreement_and_twice_it_where_a_face_is_unlikely():
    assert doubt(settled(0.01)) == 0.01
    assert doubt(settled(0.01, logit=UNLIKELY_LOGIT - 0.1)) == 0.02


def test_certainty_falls_from_one_to_nearly_zero():
    assert certainty(0.0) == certainty(CLEAR) == 1.0
    # exp(-1.8²) = 0.039
    assert certainty(LOST) == pytest.approx(0.0392, abs=1e-4)
    values = [certainty(d) for d in np.linspace(CLEAR, 3 * LOST, 50)]
    assert values == sorted(values, reverse=True)


def test_a_high_score_of_the_detector_outweighs_some_doubt():
    assert not is_lost(settled(0.07), 0.8)
    assert is_lost(settled(0.07), 0.7)
    assert is_lost(settled(0.1), 0.99)


def test_the_least_doubt_wins_but_a_head_upside_down_needs_half_of_it():
    topology = FaceMeshTopology.from_pretrained()
    face = torch.cat([topology.canonical_vertices, torch.zeros(10, 3)])
    reversed_face = torch.cat([turn(face[:, :2], torch.tensor(3.0)), face[:, 2:]], dim=-1)
    upright = settled(0.010, points=face)
    for disagreement, wins in ((0.003, False), (0.002, True)):
        other = settled(disagreement, points=reversed_face)
        assert (best_hypothesis(upright, [other], topology) is other) == wins
    for disagreement, wins in ((0.018, False), (0.022, True)):
        first = settled(disagreement, points=face)
        assert (best_hypothesis(first, [upright], topology) is upright) == wins
    assert best_hypothesis(upright, [], topology) is upright


class SureOfItself(FaceDetector):
    """A detector that reports one box with a high score, whatever the photo shows."""

    def __init__(self) -> None:
        pass

    def search(self, pixels: np.ndarray, **_: object) -> Search:
        box = torch.tensor([60.0, 60.0, 140.0, 140.0])
        points = torch.tensor([[80.0, 85], [120, 85], [100, 105], [85, 120], [115, 120]])
        return Search([FaceDetection(box, 0.95, points)], [])

    def look_closer(self, pixels: np.ndarray, box_xyxy: object, **_: object) -> list[FaceDetection]:
        return self.search(pixels).faces


def test_a_detection_whose_points_do_not_convince_is_no_face(perception, portrait):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    cheated: FacePerception = replace(perception, detector=SureOfItself())
    assert len(cheated.detect(noise)) == 1
    assert cheated.faces(noise, quality="fast") == []
    assert cheated.observe(noise, cheated.detect(noise)[0], quality="fast").presence < 0.05
    (face,) = perception.faces(portrait, quality="fast")
    assert face.presence > 0.99


def test_the_largest_face_that_convinces_is_the_first(perception, portrait):
    small = np.array(Image.fromarray(portrait).resize((200, 200), Image.Resampling.BOX))
    canvas = np.full((440, 640, 3), 127, np.uint8)
    canvas[:400, :400] = np.array(Image.fromarray(portrait).resize((400, 400)))
    canvas[100:300, 420:620] = small
    both = perception.faces(canvas, quality="fast")
    (largest,) = perception.faces(canvas, largest=True, quality="fast")
    assert len(both) == 2
    assert largest.landmarks478[:, 0].max() < 400
    torch.testing.assert_close(largest.landmarks478, both[0].landmarks478)


def test_a_small_lying_face_beside_a_large_upright_one_is_found(perception, portrait):
    canvas = np.full((400, 640, 3), 127, np.uint8)
    upright = Image.fromarray(portrait).resize((400, 400))
    canvas[:, :400] = np.array(upright)
    canvas[100:160, 420:480] = np.rot90(np.array(upright.resize((60, 60))))
    # The upright face is clear, so the detector does not search the turned photo.
    assert len(perception.detector.detect(canvas)) == 1
    large, lying = perception.faces(canvas, quality="fast")
    # A counter-clockwise turn takes (x, y) to (y, 60 - x).
    x, y = (large.landmarks478[:, :2] * 60 / 400).unbind(-1)
    distance = (lying.landmarks478[:, :2] - torch.stack([y + 420, 160 - x], dim=-1)).norm(dim=-1)
    # The face is 40 pixels high.
    assert distance.mean() < 2.0
