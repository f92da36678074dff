"""The gaze follows the irises."""

import math

import pytest
import torch

from lifemask.fitting.gaze import IRIS_DISTANCE, gaze_from_iris
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable.eyeballs import gaze_rotation
from lifemask.morphable.model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained(identity_modes=10)


def camera(turn: float) -> PerspectiveCamera:
    frontal = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    rotation = matrix_from_rotation_vector(torch.tensor([0.0, turn, 0.0])) @ frontal
    motion = rigid_transform(rotation, torch.tensor([0.02, 0.01, 0.7]))
    return PerspectiveCamera(torch.tensor(900.0), torch.tensor([300.0, 200.0]), motion, (400, 600))


@pytest.mark.parametrize("turn", [0.0, 0.4, -0.3])
@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.3, 0.1), (-0.2, -0.25)])
def test_gaze_returns_what_the_irises_were_drawn_with(model, turn, gaze):
    coefficients = model.neutral()
    centres = model.eyeball_centres(coefficients.identity)
    direction = gaze_rotation(torch.tensor(gaze))[:, 2]
    pixels = camera(turn).project(centres + IRIS_DISTANCE * direction)[:, :2]
    # The network's order: the subject's right iris first, five points each.
    iris = torch.cat([pixels[1:].expand(5, 2), pixels[:1].expand(5, 2)])
    found = gaze_from_iris(model, coefficients, camera(turn), iris)
    torch.testing.assert_close(found, torch.tensor([gaze, gaze]), atol=2e-3, rtol=0)


def test_an_iris_far_off_the_eye_gives_a_bounded_gaze(model):
    iris = torch.full((10, 2), 5.0)
    found = gaze_from_iris(model, model.neutral(), camera(0.0), iris)
    assert torch.isfinite(found).all()
    assert found.abs().max() <= math.radians(41)
