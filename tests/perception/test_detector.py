"""Faces are found at any size, in rotated photos, in groups, and if they fill the photo."""

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.io.images import read_photo
from lifemask.morphable.assets import asset_path
from lifemask.perception.detector import roll_radians, suppress_overlaps, with_others
from lifemask.perception.observation import FaceDetection


def enlarged(photo: np.ndarray, factor: float) -> np.ndarray:
    size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
    return np.array(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def found(perception, portrait) -> FaceDetection:
    (face,) = perception.detect(portrait)
    return face


def face_size(face: FaceDetection) -> float:
    return float((face.box_xyxy[2:] - face.box_xyxy[:2]).max())


def test_the_points_of_a_portrait_are_at_eyes_nose_and_mouth(found):
    right_eye, left_eye, nose, right_mouth, left_mouth = found.keypoints5
    assert found.score > 0.8
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < nose[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photo_turned_by_quarters_gives_points_in_its_own_pixels(
    perception, portrait, found, turns
):
    height, width = portrait.shape[:2]
    (face,) = perception.detect(np.rot90(portrait, turns))
    x, y = found.keypoints5.unbind(-1)
    # Where a counter-clockwise turn takes (x, y).
    x, y = ((y, width - x), (width - x, height - y), (height - y, x))[turns - 1]
    expected = torch.stack([x, y], dim=-1)
    assert (face.keypoints5 - expected).norm(dim=-1).max() < 0.04 * face_size(found)
    assert abs(np.sin(roll_radians(face.keypoints5) + turns * np.pi / 2)) < 0.1


@pytest.mark.parametrize("number", range(1, 9))
def test_upside_down_photos_are_recognised(perception, number):
    """Some upside-down faces score above 0.9, but the upright ones score more."""
    pixels = read_photo(asset_path(f"samples/portrait_{number}")).pixels
    face = perception.detect(pixels[::-1, ::-1])[0]
    assert abs(abs(roll_radians(face.keypoints5)) - np.pi) < 0.5


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_the_photo_scales_the_face(perception, portrait, found, factor):
    (face,) = perception.detect(enlarged(portrait, factor))
    error = (face.keypoints5 / factor - found.keypoints5).norm(dim=-1)
    assert error.max() < 0.04 * face_size(found)


def test_two_people_are_found_the_larger_first(perception, portrait):
    small = enlarged(portrait, 0.5)
    canvas = np.full((portrait.shape[0], portrait.shape[1] + small.shape[1], 3), 127, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    canvas[:, small.shape[1] :] = portrait
    first, second = perception.detect(canvas)
    assert 1.7 < face_size(first) / face_size(second) < 2.3
    assert first.box_xyxy[0] > small.shape[1] - 10 > second.box_xyxy[0]


def test_a_small_face_in_a_large_photo_is_found(perception, portrait):
    canvas = np.full((1500, 2000, 3), 127, np.uint8)
    small = enlarged(portrait, 110 / portrait.shape[0])
    canvas[900 : 900 + small.shape[0], 1200 : 1200 + small.shape[1]] = small
    (face,) = perception.detect(canvas)
    assert 1200 < face.keypoints5[2, 0] < 1200 + small.shape[1]
    assert 900 < face.keypoints5[2, 1] < 900 + small.shape[0]


def test_a_face_cut_to_its_middle_is_still_found(perception, portrait, found):
    left, top, right, bottom = found.box_xyxy.round().int().tolist()
    inset = (right - left) // 10
    crop = portrait[top + inset : bottom - inset, left + inset : right - inset]
    (face,) = perception.detect(crop)
    offset = torch.tensor([left + inset, top + inset])
    error = (face.keypoints5 + offset - found.keypoints5).norm(dim=-1)
    assert error.max() < 0.1 * face_size(found)


def test_a_photo_without_a_face_gives_an_empty_list(perception):
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 300, 3))
    assert perception.detect(ramp) == []
    assert perception.detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_wrong_pixels_are_refused_with_what_came(perception):
    with pytest.raises(ValueError, match=r"\(10, 10\).*float32|got \(10, 10\)"):
        perception.detect(np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        perception.detect(np.zeros((10, 10, 3), np.float32))


def test_detections_are_compared_by_identity():
    one = FaceDetection(torch.zeros(4), 0.9, torch.zeros(5, 2))
    other = FaceDetection(torch.zeros(4), 0.9, torch.zeros(5, 2))
    assert one == one
    assert [other, one].index(one) == 1


def test_overlapping_boxes_leave_the_best():
    def face(x: float, score: float) -> FaceDetection:
        return FaceDetection(torch.tensor([x, 0.0, x + 10.0, 10.0]), score, torch.zeros(5, 2))

    # 0 and 2 share 80 of 120: over the threshold of 0.3; 0 and 8 share 20 of 180: under it.
    kept = suppress_overlaps([face(0.0, 0.7), face(2.0, 0.9), face(8.5, 0.8)])
    assert [round(k.score, 1) for k in kept] == [0.9, 0.8]


def test_a_face_that_the_border_cuts_does_not_come_before_a_whole_one():
    def face(left: float, side: float) -> FaceDetection:
        box = torch.tensor([left, 20.0, left + side, 20.0 + side])
        return FaceDetection(box, 0.9, box[:2].expand(5, 2))

    cut, whole = face(-30.0, 60.0), face(100.0, 50.0)
    assert with_others([cut, whole], [], (200, 200)) == [whole, cut]
    # Both are whole in a larger photo.
    cut, whole = face(30.0, 60.0), face(160.0, 50.0)
    assert with_others([whole], [cut], (300, 300)) == [cut, whole]
