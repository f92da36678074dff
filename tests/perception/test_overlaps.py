"""A face behind another one is measured without it, and is not the other one again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lifemask.perception import FaceObservation, FacePerception
from lifemask.perception.correspondences import keypoints_of
from lifemask.perception.observation import FaceDetection
from lifemask.perception.overlaps import ObservedFace, apart, overlap, without_faces

SIDE = 640


@pytest.fixture(scope="module")
def behind(samples: Path) -> Image.Image:
    return shrunk(samples, 1)


@pytest.fixture(scope="module")
def alone(perception: FacePerception, behind: Image.Image) -> FaceObservation:
    (found,) = perception.faces(np.array(behind), quality="fast", segment=False)
    return found


def shrunk(samples: Path, number: int) -> Image.Image:
    picture = Image.open(samples / f"portrait_{number}.jpg").convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return picture


def square(left: float, top: float, side: float) -> Tensor:
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    return torch.tensor([left, top]) + side * corners


def pasted(perception: FacePerception, samples: Path, behind: Image.Image, left: int) -> np.ndarray:
    """Return a photo with the head of another person in front, from this column on."""
    other = shrunk(samples, 2)
    (found,) = perception.faces(np.array(other), quality="fast", segment=False)
    x0, y0, x1, y1 = (int(value) for value in found.box_xyxy.tolist())
    head = other.crop((x0 - 20, y0 - 60, x1 + 20, y1 + 20))
    mask = Image.new("L", head.size, 0)
    ImageDraw.Draw(mask).ellipse([4, 4, head.width - 4, head.height - 4], fill=255)
    canvas = Image.new("RGB", (1000, 760), (128, 128, 128))
    canvas.paste(behind, (0, 0))
    canvas.paste(head, (left, 150), mask)
    return np.array(canvas)


def test_a_face_behind_another_is_found_where_it_is(
    perception: FacePerception, samples: Path, behind: Image.Image, alone: FaceObservation
) -> None:
    left, _, right, _ = alone.box_xyxy.tolist()
    size = right - left
    photo = pasted(perception, samples, behind, int((left + right) / 2))
    found = perception.faces(photo, quality="fast", segment=False)
    assert len(found) == 2
    hidden, front = sorted(found, key=lambda face: float(face.box_xyxy[0]))
    assert [len(face.in_front) for face in (hidden, front)] == [1, 0]
    moved = (keypoints_of(hidden.landmarks478) - keypoints_of(alone.landmarks478)).norm(dim=-1)
    # The eye and the mouth corner on the visible side stay, the others are guessed.
    assert float(moved[[0, 3]].max()) < 0.05 * size
    assert float(moved.max()) < 0.2 * size
    largest = perception.faces(photo, largest=True, quality="fast", segment=False)
    assert torch.equal(largest[0].landmarks478, found[0].landmarks478)


def test_faces_beside_each_other_stay_as_they_are(
    perception: FacePerception, samples: Path, behind: Image.Image, alone: FaceObservation
) -> None:
    photo = pasted(perception, samples, behind, int(alone.box_xyxy[2]) + 40)
    found = perception.faces(photo, quality="fast", segment=False)
    assert [len(face.in_front) for face in found] == [0, 0]


def test_overlap_is_a_share_of_the_smaller_outline() -> None:
    large = square(10, 10, 100)
    assert overlap(large, square(200, 10, 50)) == 0
    assert overlap(large, square(20, 20, 50)) == pytest.approx(1, abs=0.03)
    assert overlap(large, square(85, 20, 50)) == pytest.approx(0.5, abs=0.05)


def test_outlines_are_painted_grey_on_a_copy() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    assert without_faces(pixels, ()) is pixels
    painted = without_faces(pixels, (square(5, 5, 20), square(50, 30, 30)))
    assert not pixels.any()
    assert (painted[10:20, 10:20] == 128).all()
    assert (painted[35, 55] == 128).all()
    assert not painted[:, 30:45].any()


def test_a_face_behind_two_others_is_measured_without_both(alone: FaceObservation) -> None:
    size = float((alone.box_xyxy[2:] - alone.box_xyxy[:2]).max())

    def at(shift: float, scatter: float) -> ObservedFace:
        moved = torch.tensor([shift * size, 0.0])
        points = alone.landmarks478 + torch.tensor([shift * size, 0.0, 0.0])
        box = alone.box_xyxy + moved.repeat(2)
        detection = FaceDetection(box, alone.score, keypoints_of(points))
        sigma = torch.full_like(alone.landmark_sigma, scatter * size)
        return ObservedFace(
            detection, dataclasses.replace(alone, landmarks478=points, landmark_sigma=sigma)
        )

    middle, left, right = at(0, 0.3), at(-0.6, 0.0), at(0.6, 0.0)
    photo = np.zeros((760, 1600, 3), np.uint8)

    def observe(pixels: np.ndarray, detection: FaceDetection) -> FaceObservation:
        """The points of the face in the middle scatter until both others are grey."""
        if detection is not middle.detection:
            return (left if detection is left.detection else right).observation
        noses = [keypoints_of(face.observation.landmarks478)[2].long() for face in (left, right)]
        painted = [bool(pixels[int(y), int(x)].any()) for x, y in noses]
        scatter = 0.3 - 0.1 * sum(painted)
        sigma = torch.full_like(alone.landmark_sigma, scatter * size)
        return dataclasses.replace(middle.observation, landmark_sigma=sigma)

    found = apart(photo, [middle, left, right], observe)
    assert [len(face.observation.in_front) for face in found] == [2, 0, 0]
