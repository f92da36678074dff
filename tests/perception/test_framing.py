"""Points, cameras, pixels and light of photo and crop are consistent."""

import math

import numpy as np
import pytest
import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_rotation_vector, matrix_from_yaw_pitch_roll
from lifemask.geometry.viewpoints import Viewpoint, camera_of
from lifemask.io.colour import image_from_pixels
from lifemask.perception.framing import (
    FRAME_SCALE,
    FaceFrame,
    crop_camera,
    crop_light,
    crop_photo,
    crop_pixels,
    crop_points,
    face_frame,
    photo_camera,
    photo_light,
    photo_points,
    viewpoint_frame,
)
from lifemask.perception.landmarks import turn


def frames(generator: torch.Generator, *batch: int) -> FaceFrame:
    return FaceFrame(
        torch.rand(*batch, 2, generator=generator) * 200,
        torch.rand(*batch, generator=generator) * 100 + 50,
        torch.randn(*batch, generator=generator),
    )


def cameras(generator: torch.Generator, *batch: int) -> PerspectiveCamera:
    turned = matrix_from_rotation_vector(torch.randn(*batch, 3, generator=generator) * 0.5)
    rotation = turned @ torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    translation = torch.randn(*batch, 3, generator=generator) * 0.05 + torch.tensor([0, 0, 0.7])
    return PerspectiveCamera(
        torch.rand(*batch, generator=generator) * 500 + 300,
        torch.rand(*batch, 2, generator=generator) * 100,
        rigid_transform(rotation, translation),
        (300, 400),
    )


def test_a_projected_and_cropped_point_is_what_the_crop_camera_projects():
    generator = torch.Generator().manual_seed(0)
    frame, camera = frames(generator, 5), cameras(generator, 5)
    head = torch.randn(5, 20, 3, generator=generator) * 0.1
    in_photo = camera.project(head)
    in_crop = crop_camera(camera, frame, 96).project(head)
    cropped = crop_points(in_photo[..., :2], frame, 96)
    torch.testing.assert_close(cropped, in_crop[..., :2], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(in_photo[..., 2], in_crop[..., 2])


def test_photo_camera_inverts_crop_camera():
    generator = torch.Generator().manual_seed(1)
    frame, camera = frames(generator, 4), cameras(generator, 4)
    back = photo_camera(crop_camera(camera, frame, 80), frame, 80, camera.image_size)
    torch.testing.assert_close(back.focal_pixels, camera.focal_pixels)
    torch.testing.assert_close(back.principal_point, camera.principal_point, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(back.world_to_camera, camera.world_to_camera)
    assert back.image_size == (300, 400)


def test_photo_points_inverts_crop_points():
    generator = torch.Generator().manual_seed(2)
    frame, points = frames(generator, 3), torch.randn(3, 7, 2, generator=generator) * 100
    back = photo_points(crop_points(points, frame, 64), frame, 64)
    torch.testing.assert_close(back, points, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("angle", [-2.5, -0.4, 0.0, 0.3, 1.7])
def test_the_frame_follows_a_rotated_shifted_and_scaled_face(angle: float):
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(478, 3, generator=generator)
    points[10, :2], points[152, :2] = torch.tensor([0.0, -3.0]), torch.tensor([0.0, 3.0])
    points[468:] = 1e3  # The irises count for nothing.
    upright = face_frame(points)
    assert float(upright.roll) == pytest.approx(0.0, abs=1e-6)
    extent = points[:468, :2].amax(0) - points[:468, :2].amin(0)
    assert float(upright.side) == pytest.approx(FRAME_SCALE * float(extent.max()), rel=1e-5)
    shift = torch.tensor([30.0, -20.0])
    moved = turn(points[:, :2], torch.tensor(angle)) * 4 + shift
    frame = face_frame(moved)
    assert float(frame.roll) == pytest.approx(angle, abs=1e-5)
    assert float(frame.side) == pytest.approx(4 * float(upright.side), rel=1e-4)
    # In their crops the two faces are the same.
    torch.testing.assert_close(
        crop_points(moved, frame, 100), crop_points(points[:, :2], upright, 100),
        atol=1e-2, rtol=1e-4,
    )  # fmt: skip


def test_frames_are_batched():
    points = torch.randn(2, 3, 478, 2, generator=torch.Generator().manual_seed(4))
    together = face_frame(points)
    alone = face_frame(points[1, 2])
    torch.testing.assert_close(together.centre[1, 2], alone.centre)
    torch.testing.assert_close(together.roll[1, 2], alone.roll)


def test_an_upright_crop_of_whole_pixels_is_a_slice_and_outside_repeats_the_border():
    photo = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(5))
    inside = FaceFrame(torch.tensor([20.0, 16.0]), torch.tensor(16.0), torch.tensor(0.0))
    torch.testing.assert_close(crop_photo(photo, inside, 16), photo[:, 8:24, 12:28])
    above = FaceFrame(torch.tensor([20.0, -100.0]), torch.tensor(16.0), torch.tensor(0.0))
    expected = photo[:, :1, 12:28].expand(3, 16, 16)
    torch.testing.assert_close(crop_photo(photo, above, 16), expected)


@pytest.mark.parametrize("reduction", [2.0, 3.0, 5.0, 9.5])
def test_fine_noise_averages_out_in_a_small_crop(reduction: float):
    photo = torch.rand(1, 304, 304, generator=torch.Generator().manual_seed(6))
    frame = FaceFrame(torch.tensor([152.0, 152.0]), torch.tensor(16 * reduction), torch.tensor(0.5))
    crop = crop_photo(photo, frame, 16)
    # The mean of n independent pixels; bilinear samples only average further.
    assert float(crop.std()) < 1.2 * math.sqrt(1 / 12) / reduction


def test_crop_photo_agrees_with_crop_points():
    rows, columns = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    coordinates = torch.stack([columns, rows])
    frame = FaceFrame(torch.tensor([40.0, 30.0]), torch.tensor(30.0), torch.tensor(0.4))
    crop = crop_photo(coordinates, frame, 20)
    steps = torch.arange(20) + 0.5
    centres = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    seen = crop.flatten(1).T
    torch.testing.assert_close(crop_points(seen, frame, 20), centres, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("roll", [0.0, 0.7, -2.0])
def test_crop_pixels_agrees_with_cropping_the_whole_photo(roll: float):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    frame = FaceFrame(torch.tensor([70.0, 80.0]), torch.tensor(25.0), torch.tensor(roll))
    whole = crop_photo(image_from_pixels(pixels), frame, 20)
    torch.testing.assert_close(crop_pixels(pixels, frame, 20), whole, atol=1e-5, rtol=1e-4)


def test_crops_are_differentiable_in_the_frame():
    photo = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(photo[None], (60, 60), mode="bicubic")[0]

    def brightness(centre: torch.Tensor, side: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
        return crop_photo(smooth, FaceFrame(centre, side, roll), 8)[0, 2:4, 3].sum()

    given = [torch.tensor(v, dtype=torch.float64) for v in ([30.3, 28.1], 20.2, 0.3)]
    inputs = [v.requires_grad_() for v in given]
    assert torch.autograd.gradcheck(brightness, inputs, eps=1e-6, atol=1e-4)


def test_light_rotates_with_the_crop():
    generator = torch.Generator().manual_seed(8)
    light = SphericalHarmonicsLight(torch.randn(4, 9, 3, generator=generator))
    frame = frames(generator, 4)
    camera = cameras(generator, 4)
    normals = torch.nn.functional.normalize(torch.randn(4, 30, 3, generator=generator), dim=-1)

    def shaded(camera: PerspectiveCamera, light: SphericalHarmonicsLight) -> torch.Tensor:
        turned = normals @ camera.world_to_camera[..., :3, :3].transpose(-1, -2)
        return light.shade(turned * torch.tensor([1.0, -1.0, -1.0]))

    cropped = crop_light(light, frame)
    torch.testing.assert_close(
        shaded(crop_camera(camera, frame, 64), cropped), shaded(camera, light),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    back = photo_light(cropped, frame).coefficients
    torch.testing.assert_close(back, light.coefficients, atol=1e-5, rtol=1e-4)


def test_the_frame_of_a_viewpoint_shows_a_turned_head_upright_at_the_wanted_place_and_scale():
    yaw, pitch, roll = torch.tensor([[0.0, 0.7, -1.2], [0.0, 0.3, -0.2], [0.4, -0.9, 2.0]])
    frontal = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    rolled = matrix_from_rotation_vector(torch.stack([0 * roll, 0 * roll, roll], -1))
    turned = matrix_from_yaw_pitch_roll(yaw, pitch, torch.zeros(3))
    place = torch.tensor([[40.0, 70.0], [120.0, 30.0], [64.0, 64.0]])
    seen = Viewpoint(
        rolled @ frontal @ turned, place, torch.tensor([300.0, 700.0, 500.0]), torch.ones(3)
    )
    wanted = Viewpoint(
        frontal.expand(3, 3, 3),
        torch.tensor([48.0, 52.0]).expand(3, 2),
        torch.full((3,), 400.0),
        torch.ones(3),
    )
    frame = viewpoint_frame(seen, wanted, 96)
    camera = camera_of(seen, torch.full((3, 2), 64.0), (128, 128))
    axis = torch.tensor([[0.0, -0.001, 0.0], [0.0, 0.0, 0.0], [0.0, 0.001, 0.0]]).expand(3, 3, 3)
    points = crop_points(camera.project(axis)[..., :2], frame, 96)
    torch.testing.assert_close(points[:, 1], wanted.translation, atol=1e-3, rtol=0)
    # The head's up axis goes straight up in the crop, but for the perspective.
    x, y = (points[:, 0] - points[:, 2]).unbind(-1)
    assert (y > 0).all()
    assert (x.abs() < 0.02 * y).all()
    assert y[0].item() == pytest.approx(0.8, rel=1e-2)
    # Back to the photo.
    torch.testing.assert_close(
        photo_points(points, frame, 96), camera.project(axis)[..., :2], atol=1e-3, rtol=0
    )
