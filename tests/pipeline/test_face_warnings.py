"""A good portrait has no warnings, and each fault of a photo has its own."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from lifemask.fitting.fit import FaceFit
from lifemask.geometry.cameras import rigid_transform
from lifemask.pipeline.face_warnings import FaceSignals, face_signals, sharpness, warnings_of
from lifemask.pipeline.reconstruction import FaceReconstruction

GOOD = FaceSignals(
    pixels=300.0,
    sharpness=0.9,
    turn_degrees=10.0,
    landmark_error=0.005,
    landmark_spread=0.003,
    hidden_share=0.02,
    presence=0.99,
)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("unsure", {"presence": 0.4}),
        ("hidden", {"hidden_share": 0.5}),
        ("turned", {"turn_degrees": 70.0}),
        ("landmarks", {"landmark_error": 0.04}),
        ("landmarks", {"landmark_spread": 0.04}),
        ("small", {"pixels": 50.0}),
        ("blurred", {"sharpness": 0.4}),
        ("blurred", {"sharpness": 0.4, "hidden_share": 0.9}),
    ],
)
def test_each_fault_has_its_own_warning(reason: str, changes: dict[str, float]) -> None:
    assert warnings_of(GOOD) == ()
    (warning,) = warnings_of(dataclasses.replace(GOOD, **changes))
    assert warning.reason == reason


def test_the_gravest_warning_comes_first() -> None:
    bad = dataclasses.replace(GOOD, pixels=20.0, presence=0.1, turn_degrees=80.0)
    assert [warning.reason for warning in warnings_of(bad)] == ["unsure", "turned", "small"]


def test_a_good_portrait_has_no_warning(face: FaceReconstruction) -> None:
    assert face.warnings == ()
    assert face.to_json_dict()["warnings"] == []


def signals(face: FaceReconstruction, **changes: object) -> FaceSignals:
    parts = {"pixels": face.photo.pixels, "observation": face.observation, "fit": face.fit}
    return face_signals(**(parts | changes), model=face.model)


def test_half_a_face_outside_the_photo_is_hidden(face: FaceReconstruction) -> None:
    middle = round(float(face.observation.landmarks478[1, 0]))
    half = np.ascontiguousarray(face.photo.pixels[:, :middle])
    assert signals(face, pixels=half).hidden_share == pytest.approx(0.5, abs=0.1)


def test_a_face_that_is_not_skin_is_hidden(face: FaceReconstruction) -> None:
    assert face.observation.segmentation is not None
    segmentation = torch.zeros_like(face.observation.segmentation)
    segmentation[5] = 1
    covered = dataclasses.replace(face.observation, segmentation=segmentation)
    assert signals(face, observation=covered).hidden_share == 1


@pytest.mark.parametrize("degrees", [0.0, 30.0, 75.0, 120.0])
@pytest.mark.parametrize("axis", ["yaw", "pitch"])
def test_the_turn_is_that_of_the_head(face: FaceReconstruction, degrees: float, axis: str) -> None:
    """The frontal camera looks along -Z of the head; the head turns about its +Y or +X."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turns = {"yaw": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "pitch": [[1, 0, 0], [0, c, -s], [0, s, c]]}
    frontal = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose = rigid_transform(frontal @ torch.tensor(turns[axis]), torch.tensor([0.0, 0.0, 1.0]))
    camera = dataclasses.replace(face.camera, world_to_camera=pose)
    fit: FaceFit = dataclasses.replace(
        face.fit, face=dataclasses.replace(face.fit.face, camera=camera)
    )
    assert signals(face, fit=fit).turn_degrees == pytest.approx(degrees, abs=0.1)


def test_sharpness_falls_with_blur_and_not_with_exposure(face: FaceReconstruction) -> None:
    left, top, right, bottom = face.observation.box_xyxy.int().tolist()
    portrait = Image.fromarray(face.photo.pixels).crop((left, top, right, bottom))
    size = max(portrait.size)
    blurred = [
        sharpness(np.array(portrait.filter(ImageFilter.GaussianBlur(share * size))))
        for share in (0.0, 0.01, 0.02, 0.04)
    ]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 0.55 > blurred[-1]
    darker = (np.array(portrait) * 0.6).astype(np.uint8)
    assert sharpness(darker) == pytest.approx(blurred[0], rel=0.1)
