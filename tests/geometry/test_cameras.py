"""Cameras follow OpenCV's conventions."""

import torch
from torch import Tensor

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_rotation_vector


def camera_at(distance: float, *, focal: float = 1000.0) -> PerspectiveCamera:
    motion = rigid_transform(
        torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.0, 0.0, distance])
    )
    return PerspectiveCamera(torch.tensor(focal), torch.tensor([320.0, 240.0]), motion, (480, 640))


def points(count: int = 20) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(0)) * 0.1


def test_subjects_left_is_right_in_the_image_and_up_is_up() -> None:
    """With a focal length of 1000 px, 10 cm at a distance of 1 m are 100 px."""
    projected = camera_at(1.0).project(torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]))
    torch.testing.assert_close(projected, torch.tensor([[420.0, 240.0, 1.0], [320.0, 140.0, 1.0]]))


def test_the_nose_is_nearer_than_the_ears() -> None:
    depth = camera_at(1.0).project(torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]]))[:, 2]
    torch.testing.assert_close(depth, torch.tensor([0.9, 1.1]))


def test_cropping_then_enlarging_moves_points_like_pixels() -> None:
    camera = camera_at(0.8)
    cropped = camera.cropped(100.0, 50.0, (300, 200), 2.0)
    expected = camera.project(points())
    expected[:, :2] = (expected[:, :2] - torch.tensor([100.0, 50.0])) * 2
    torch.testing.assert_close(cropped.project(points()), expected)
    assert cropped.image_size == (300, 200)


def test_moving_head_and_camera_together_changes_nothing() -> None:
    camera = camera_at(0.8)
    motion = rigid_transform(
        matrix_from_rotation_vector(torch.tensor([0.3, -0.2, 0.5])), torch.tensor([0.1, 0.2, 0.3])
    )
    moved = points() @ motion[:3, :3].T + motion[:3, 3]
    follower = PerspectiveCamera(
        camera.focal_pixels,
        camera.principal_point,
        camera.world_to_camera @ torch.linalg.inv(motion),
        camera.image_size,
    )
    torch.testing.assert_close(
        follower.project(moved), camera.project(points()), atol=1e-3, rtol=1e-5
    )


def test_batches_of_cameras_project_like_single_ones() -> None:
    cameras = [camera_at(0.8), camera_at(1.5, focal=500.0)]
    batch = PerspectiveCamera(
        torch.stack([camera.focal_pixels for camera in cameras]),
        torch.stack([camera.principal_point for camera in cameras]),
        torch.stack([camera.world_to_camera for camera in cameras]),
        (480, 640),
    )
    projected = batch.project(points().expand(2, -1, -1))
    torch.testing.assert_close(projected, torch.stack([c.project(points()) for c in cameras]))


def test_projection_has_the_right_gradients() -> None:
    where = points(4).double().requires_grad_()
    camera = camera_at(1.0)
    double = PerspectiveCamera(
        camera.focal_pixels.double(),
        camera.principal_point.double(),
        camera.world_to_camera.double(),
        camera.image_size,
    )
    assert torch.autograd.gradcheck(double.project, (where,))
