"""A viewpoint does not change when the photo is cropped differently."""

import math

import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_columns, matrix_from_rotation_vector
from lifemask.geometry.viewpoints import camera_of, sight_rotation, viewpoint_of


def cameras(seed: int, *batch: int) -> PerspectiveCamera:
    generator = torch.Generator().manual_seed(seed)
    turn = matrix_from_rotation_vector(torch.randn(*batch, 3, generator=generator))
    translation = torch.randn(*batch, 3, generator=generator) * 0.1 + torch.tensor([0, 0, 0.8])
    return PerspectiveCamera(
        torch.rand(*batch, generator=generator) * 500 + 300,
        torch.rand(*batch, 2, generator=generator) * 100,
        rigid_transform(turn @ torch.tensor(FRONTAL_HEAD_TO_CAMERA), translation),
        (200, 300),
    )


def test_camera_of_inverts_viewpoint_of():
    camera = cameras(0, 6)
    back = camera_of(viewpoint_of(camera), camera.principal_point, camera.image_size)
    torch.testing.assert_close(back.world_to_camera, camera.world_to_camera, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(back.focal_pixels, camera.focal_pixels)


def test_the_origin_is_projected_to_the_translation_and_a_small_step_by_the_scale():
    camera = cameras(1, 5)
    view = viewpoint_of(camera)
    origin = camera.project(torch.zeros(5, 1, 3))
    torch.testing.assert_close(view.translation, origin[:, 0, :2], atol=1e-3, rtol=1e-4)
    # One millimetre along the camera's own x axis.
    beside = camera.world_to_camera[:, 0, :3].unsqueeze(1) * 1e-3
    step = (camera.project(beside) - origin)[:, 0, 0]
    torch.testing.assert_close(step, view.pixels_per_metre * 1e-3, atol=1e-3, rtol=1e-3)


def test_sight_rotation_is_a_rotation_that_takes_z_to_the_direction():
    direction = torch.randn(20, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    direction[:, 2] = direction[:, 2].abs()
    rotation = sight_rotation(direction)
    eye = torch.eye(3, dtype=torch.float64).expand(20, 3, 3)
    torch.testing.assert_close(rotation @ rotation.transpose(-1, -2), eye)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20, dtype=torch.float64))
    unit = torch.nn.functional.normalize(direction, dim=-1)
    torch.testing.assert_close(rotation[..., 2], unit)
    # The smallest one: its angle is the angle between +Z and the direction.
    angle = ((rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).acos()
    torch.testing.assert_close(angle, unit[:, 2].acos())


def test_columns_of_a_rotation_give_it_back_and_others_the_nearest():
    rotation = matrix_from_rotation_vector(torch.tensor([[0.3, -2.0, 1.0], [0.0, 0.0, math.pi]]))
    columns = rotation.transpose(-1, -2)[:, :2]
    torch.testing.assert_close(matrix_from_columns(columns * 3.7), rotation, atol=1e-6, rtol=1e-5)
    sheared = torch.tensor([[2.0, 0.0, 0.0], [5.0, 0.1, 0.0]])
    torch.testing.assert_close(matrix_from_columns(sheared), torch.eye(3))
