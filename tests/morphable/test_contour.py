"""Fixed landmarks move only with the surface; the jaw of the others lies on the visible outline."""

import math

import pytest
import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable import MorphableModel
from lifemask.morphable.contour import fixed_landmarks68, outline_landmarks68

SLIDING = [point for point in range(17) if point != 8]


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained(identity_modes=2)


def camera(yaw_degrees: float) -> PerspectiveCamera:
    """Return a camera 0.7 m in front of a head that is turned by this angle."""
    turn = matrix_from_rotation_vector(torch.tensor([0.0, math.radians(yaw_degrees), 0.0]))
    pose = rigid_transform(
        torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ turn, torch.tensor([0.0, 0.0, 0.7])
    )
    return PerspectiveCamera(torch.tensor(900.0), torch.tensor([200.0, 200.0]), pose, (400, 400))


def test_fixed_points_move_with_the_surface(model: MorphableModel) -> None:
    turn = matrix_from_rotation_vector(torch.tensor([0.3, -0.5, 0.2]))
    shift = torch.tensor([0.1, 0.2, 0.3])
    points = fixed_landmarks68(model, model.mean)
    moved = fixed_landmarks68(model, 1.1 * model.mean @ turn.T + shift)
    torch.testing.assert_close(moved, 1.1 * points @ turn.T + shift, atol=1e-6, rtol=0)


@pytest.mark.parametrize("yaw_degrees", [0.0, 40.0, -75.0])
def test_no_candidate_of_the_outline_lies_further_out(
    model: MorphableModel, yaw_degrees: float
) -> None:
    assert model.contours is not None
    seen = camera(yaw_degrees)
    points = seen.project(outline_landmarks68(model, model.mean, seen))
    image = seen.project(model.mean)
    for point in SLIDING:
        line = model.contours[point]
        across = image[line[line >= 0], 0]
        # The subject's right is at the left of the image.
        outermost = across.min() if point < 8 else across.max()
        assert points[point, 0] == pytest.approx(float(outermost), abs=0.5), point


def test_a_turned_head_changes_only_the_jaw_of_the_outline(model: MorphableModel) -> None:
    front, side = (outline_landmarks68(model, model.mean, camera(yaw)) for yaw in (0.0, 60.0))
    distance = (front - side).norm(dim=-1)
    assert distance[8] == 0
    assert (distance[17:] == 0).all()
    # The side that is turned away shows its cheek there, centimetres in front of the jaw.
    hidden = SLIDING[:6] if distance[:6].mean() > distance[11:17].mean() else range(11, 17)
    assert distance[list(hidden)].mean() > 0.01


def test_the_fixed_jaw_lies_behind_the_outline_of_a_frontal_face(model: MorphableModel) -> None:
    """AFLW2000-3D's jaw follows the edge of the bone, 2 to 3 cm behind what is seen from the front."""
    assert model.landmarks68_outline is not None
    frontal = model.landmarks68_outline.points(model.mean, model.triangles)
    behind = (frontal - fixed_landmarks68(model, model.mean))[:, 2]
    for point in (2, 3, 4, 12, 13, 14):
        assert 0.015 < behind[point] < 0.045, point
    # The points inside the face differ by millimetres.
    inner = (frontal - fixed_landmarks68(model, model.mean))[17:].norm(dim=-1)
    assert inner.max() < 0.008
