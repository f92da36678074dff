"""A fit to the projected points of a head finds the head's pose."""

import torch

from lifemask.evaluation.posing import pose_points
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_rotation_vector


def test_pose_is_recovered_from_a_perspective_view() -> None:
    torch.manual_seed(0)
    points = 0.1 * torch.randn(200, 3)
    turn = matrix_from_rotation_vector(torch.tensor([0.2, -0.9, 0.15]))
    rotation = turn @ torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    camera = PerspectiveCamera(
        torch.tensor(900.0),
        torch.tensor([320.0, 240.0]),
        rigid_transform(rotation, torch.tensor([0.05, -0.03, 0.9])),
        (480, 640),
    )
    seen = camera.project(points)
    landmarks = torch.cat([seen[:, :2], 1000 * (seen[:, 2:] - 0.9)], dim=-1)
    found = pose_points(points, landmarks, torch.ones(200), (480, 640))
    # The focal length follows from an assumed distance, so only the picture must agree well.
    torch.testing.assert_close(found.project(points)[:, :2], seen[:, :2], atol=0.7, rtol=0)
    cosine = ((found.world_to_camera[:3, :3] * rotation).sum() - 1) / 2
    assert torch.rad2deg(torch.acos(cosine.clamp(max=1))) < 0.5


def test_points_without_weight_do_not_matter() -> None:
    torch.manual_seed(0)
    points = 0.1 * torch.randn(50, 3)
    landmarks = 800 * points * torch.tensor([1.0, -1.0, -1.0]) + 200
    weights = torch.ones(50)
    weights[:5] = 0
    wrong = landmarks.clone()
    wrong[:5] += 1000
    first = pose_points(points, landmarks, weights, (400, 400))
    second = pose_points(points, wrong, weights, (400, 400))
    torch.testing.assert_close(first.world_to_camera, second.world_to_camera)
