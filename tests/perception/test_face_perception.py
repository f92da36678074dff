"""Observations shift, scale, rotate and flip with the photo; every crop gets an observation."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.perception import FaceObservation, FacePerception
from lifemask.perception.blendshapes import mirrored_expressions
from lifemask.perception.landmarks import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from lifemask.perception.segmentation import SEGMENTATION_CLASSES


@pytest.fixture(scope="module")
def observation(perception, portrait) -> FaceObservation:
    return perception.observe(portrait, perception.detect(portrait)[0])


def fast(perception: FacePerception, photo: np.ndarray) -> FaceObservation:
    return perception.observe(photo, perception.detect(photo)[0], quality="fast")


def eye_distance(observation: FaceObservation) -> float:
    points = observation.landmarks478[:, :2]
    return float((points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]).norm())


def error(points: torch.Tensor, observation: FaceObservation) -> float:
    """Return the median distance to the observed points in percent of the distance of the eyes."""
    distances = (points - observation.landmarks478[:, :2]).norm(dim=-1)
    return 100.0 * float(distances.median()) / eye_distance(observation)


def transformed(photo: np.ndarray, back: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(photo)
    return np.array(image.transform(size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC))


def test_a_full_observation_is_complete(observation):
    assert observation.presence > 0.99
    assert observation.landmark_sigma.shape == (478,)
    assert 0.0 < observation.landmark_sigma.median() < 0.02 * eye_distance(observation)
    assert observation.blendshapes.shape == (len(ARKIT_EXPRESSIONS),)
    assert observation.embedding is not None
    assert observation.segmentation is not None
    torch.testing.assert_close(observation.segmentation.sum(0), torch.ones(256, 256))


def test_fast_leaves_out_what_is_slow_unless_asked(perception, portrait, observation):
    detection = perception.detect(portrait)[0]
    plain = perception.observe(portrait, detection, quality="fast")
    assert plain.segmentation is None
    assert plain.embedding is None
    asked = perception.observe(portrait, detection, quality="fast", segment=True, embed=True)
    assert asked.segmentation is not None
    assert asked.embedding is not None
    assert (asked.embedding - observation.embedding).norm() < 0.1
    assert error(asked.landmarks478[:, :2], observation) < 1.0


def test_shifting_the_photo_shifts_the_points(perception, portrait, observation):
    moved = np.pad(portrait, ((37, 0), (101, 0), (0, 0)), mode="edge")
    points = fast(perception, moved).landmarks478[:, :2] - torch.tensor([101.0, 37.0])
    assert error(points, observation) < 1.0


def test_scaling_the_photo_scales_the_points(perception, portrait, observation):
    height, width = portrait.shape[:2]
    grown = transformed(portrait, (0.4, 0, 0, 0, 0.4, 0), (int(width * 2.5), int(height * 2.5)))
    assert error(fast(perception, grown).landmarks478[:, :2] / 2.5, observation) < 1.0


def test_rotating_the_photo_rotates_points_but_not_the_expression(
    perception, portrait, observation
):
    height, width = portrait.shape[:2]
    angle = math.radians(25.0)
    cosine, sine = math.cos(angle), math.sin(angle)
    # The turned photo shows at p what the photo shows at R (p - c) + c.
    rotation = torch.tensor([[cosine, -sine], [sine, cosine]])
    centre = torch.tensor([width / 2, height / 2])
    offset = (centre - rotation @ centre).tolist()
    back = (cosine, -sine, offset[0], sine, cosine, offset[1])
    seen = fast(perception, transformed(portrait, back, (width, height)))
    points = (seen.landmarks478[:, :2] - centre) @ rotation.T + centre
    assert error(points, observation) < 1.5
    torch.testing.assert_close(seen.blendshapes, observation.blendshapes, atol=0.12, rtol=0.0)


def test_a_flipped_photo_gives_flipped_points_and_expressions(perception, portrait, observation):
    seen = fast(perception, np.ascontiguousarray(portrait[:, ::-1]))
    points = seen.landmarks478[perception.mesh.topology.mirror, :2]
    points = torch.stack([portrait.shape[1] - points[:, 0], points[:, 1]], dim=-1)
    assert error(points, observation) < 1.0
    swapped = seen.blendshapes[list(mirrored_expressions())]
    torch.testing.assert_close(swapped, observation.blendshapes, atol=0.1, rtol=0.0)


def test_mirrored_expressions_change_sides_and_nothing_else():
    twins = mirrored_expressions()
    assert [twins[index] for index in twins] == list(range(len(ARKIT_EXPRESSIONS)))
    for name, index in zip(ARKIT_EXPRESSIONS, twins, strict=True):
        swapped = name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")
        assert ARKIT_EXPRESSIONS[index] == swapped


def test_segmentation_maps_into_the_photo(observation):
    assert observation.segmentation is not None
    affine = torch.cat([observation.segmentation_to_photo, torch.tensor([[0.0, 0.0, 1.0]])])
    labels = observation.segmentation.argmax(0)

    def label_at(photo_point: torch.Tensor) -> str:
        column, row, _ = torch.linalg.solve(affine, torch.cat([photo_point, torch.ones(1)]))
        return SEGMENTATION_CLASSES[int(labels[int(row), int(column)])]

    points = observation.landmarks478[:, :2]
    # Both cheeks and the nose are face; a point well above the hairline is not.
    assert {label_at(points[i]) for i in (50, 280, 4)} == {"face_skin"}
    above = points[10] + 0.3 * (points[10] - points[152])
    assert label_at(above) in ("background", "hair")


def test_one_person_is_nearer_than_two(perception, portrait, samples, observation):
    dim = (portrait * 0.7).astype(np.uint8)
    same = perception.observe(dim, perception.detect(dim)[0], quality="fast", embed=True)
    other_photo = np.array(Image.open(samples / "portrait_2.jpg").convert("RGB"))
    other = perception.observe(
        other_photo, perception.detect(other_photo)[0], quality="fast", embed=True
    )
    assert (same.embedding - observation.embedding).norm() < 0.45
    assert (other.embedding - observation.embedding).norm() > 0.6


def test_a_tight_crop_gives_the_points_of_the_photo(perception, portrait, observation):
    left, top, right, bottom = observation.box_xyxy.round().int().tolist()
    crop = portrait[max(top, 0) : bottom, max(left, 0) : right]
    seen = perception.observe_crop(crop, quality="fast")
    points = seen.landmarks478[:, :2] + torch.tensor([max(left, 0), max(top, 0)])
    assert error(points, observation) < 2.5


def test_a_crop_gives_its_own_face_not_its_neighbour(perception, portrait, observation):
    # A lying face fills the crop, which the whole crop alone does not settle on; the upright one at
    # the edge is easier to find.
    small = np.array(Image.fromarray(portrait).resize((160, 160), Image.Resampling.BOX))
    lying = np.rot90(np.array(Image.fromarray(portrait).resize((480, 480), Image.Resampling.BOX)))
    crop = np.ascontiguousarray(lying)
    crop[-160:, -160:] = small
    middle = perception.observe_crop(crop, quality="fast").landmarks478[:, :2].mean(0)
    assert (middle - 240.0).abs().max() < 100.0


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (64, 64)])
def test_a_crop_without_a_face_has_low_presence(perception, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    seen = perception.observe_crop(pixels, quality="fast")
    assert torch.isfinite(seen.landmarks478).all()
    assert torch.isfinite(seen.blendshapes).all()
    assert seen.presence < 0.5


def test_threads_are_left_as_they_were(perception, portrait):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        perception.detect(portrait)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
