"""Crops show the right regions of photos of any size."""

import math

import numpy as np
import torch

from lifemask.perception.identity import template_region
from lifemask.perception.landmarks import head_angles, jittered
from lifemask.perception.regions import (
    crop_photo,
    mirrored,
    region_side,
    sample_regions,
    square_regions,
    to_photo,
)


def square(x: float, y: float, side: float, angle: float = 0.0) -> torch.Tensor:
    centre = torch.tensor([[x, y]])
    return square_regions(centre, torch.tensor([side]), torch.tensor([angle]))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_region_of_whole_pixels_is_a_slice_of_the_photo():
    photo = noise(40, 50)
    crop = crop_photo(photo, square(20.0, 16.0, 16.0), 16)[0]
    expected = torch.from_numpy(photo[8:24, 12:28]).permute(2, 0, 1) / 255.0
    torch.testing.assert_close(crop, expected, atol=1e-5, rtol=0.0)


def test_a_mirrored_region_gives_the_flipped_crop():
    region = square(20.0, 16.0, 16.0, 0.3)
    photo = noise(40, 50)
    straight, flipped = crop_photo(photo, region, 24), crop_photo(photo, mirrored(region), 24)
    torch.testing.assert_close(straight, flipped.flip(-1), atol=1e-4, rtol=0.0)


def test_a_quarter_turn_of_the_region_is_a_quarter_turn_of_the_crop():
    photo = noise(40, 40)
    turned = crop_photo(photo, square(20.0, 20.0, 20.0, math.pi / 2), 20)
    straight = crop_photo(photo, square(20.0, 20.0, 20.0), 20)
    torch.testing.assert_close(turned, straight.rot90(1, (2, 3)), atol=1e-4, rtol=0.0)


def test_a_fine_photo_is_averaged_not_subsampled():
    # Single white pixels: thinning out would show some of them and miss most.
    photo = np.zeros((1600, 1600, 3), np.uint8)
    photo[::4, ::4] = 255
    crop = crop_photo(photo, square(800.0, 800.0, 1024.0), 128)
    torch.testing.assert_close(crop, torch.full_like(crop, 1 / 16), atol=1e-3, rtol=0.0)


def test_reducing_a_fine_photo_shifts_nothing():
    ramp = np.broadcast_to(np.arange(1024)[:, None, None] // 4, (1024, 1024, 3)).astype(np.uint8)
    crop = crop_photo(ramp, square(500.0, 530.0, 600.0), 60)[0, 0, :, 0] * 255.0
    rows = 530.0 - 300.0 + (torch.arange(60) + 0.5) * 10.0
    # A pixel of value v covers rows 4v to 4v + 4, whose middle is 4v + 2.
    torch.testing.assert_close(crop, (rows - 2.0) / 4.0, atol=0.3, rtol=0.0)


def test_regions_outside_the_photo_give_a_crop():
    crops = crop_photo(noise(20, 20), square(500.0, -300.0, 40.0), 16, border="zeros")
    assert not crops.any()


def test_the_side_of_a_region_is_its_length_in_pixels():
    regions = square(5.0, 5.0, 12.5, 0.7)
    torch.testing.assert_close(region_side(regions), torch.tensor([12.5]))
    torch.testing.assert_close(
        to_photo(regions, torch.tensor([[[0.5, 0.5]]])), torch.tensor([[[5.0, 5.0]]])
    )


def test_jitter_is_small_balanced_and_repeatable():
    region = square(100.0, 80.0, 60.0, 0.2)[0]
    regions = jittered(region, 10)
    torch.testing.assert_close(regions, jittered(region, 10))
    middles = to_photo(regions, torch.full((10, 1, 2), 0.5))[:, 0]
    assert (middles - torch.tensor([100.0, 80.0])).abs().max() < 0.05 * 60.0
    assert (region_side(regions) / 60.0 - 1.0).abs().max() < 0.07
    assert (torch.linalg.det(regions[:, :, :2]) < 0.0).sum() == 5


def test_the_region_around_points_rotates_with_them(perception):
    mesh = perception.mesh
    points = torch.zeros(478, 3)
    points[:468] = mesh.topology.canonical_vertices * 1000.0
    angle = torch.tensor(0.4)
    rotation = square_regions(torch.zeros(2), torch.ones(()), angle)[:, :2]
    turned = torch.cat([points[:, :2] @ rotation.T, points[:, 2:]], dim=-1)
    first, second = mesh.region_around(points), mesh.region_around(turned)
    torch.testing.assert_close(second, rotation @ first, atol=1e-2, rtol=1e-4)


def test_head_angles_are_those_of_a_rotated_head(perception):
    yaw, roll = 0.7, -0.3
    about_y = torch.tensor(
        [[math.cos(yaw), 0.0, -math.sin(yaw)], [0.0, 1.0, 0.0], [math.sin(yaw), 0.0, math.cos(yaw)]]
    )
    about_z = torch.eye(3)
    about_z[:2, :2] = square_regions(torch.zeros(2), torch.ones(()), torch.tensor(roll))[:, :2]
    points = torch.zeros(478, 3)
    rotation = about_z @ about_y
    topology = perception.mesh.topology
    points[:468] = 500.0 * topology.canonical_vertices @ rotation.T + torch.tensor([9.0, 5.0, 0.0])
    found = topology.head_rotation(points)
    torch.testing.assert_close(found, rotation, atol=1e-5, rtol=0.0)
    angles = head_angles(about_y)
    # A positive yaw takes the face's forward axis (-z) to the image's right (+x).
    torch.testing.assert_close(angles.yaw_radians, torch.tensor(yaw))
    torch.testing.assert_close(head_angles(about_z).roll_radians, torch.tensor(roll))


def test_a_template_region_inverts_a_known_similarity():
    template = ((0.2, 0.3), (0.8, 0.3), (0.5, 0.9))
    region = square(70.0, 40.0, 55.0, -0.6)[0]
    points = to_photo(region, torch.tensor(template))
    torch.testing.assert_close(template_region(points, template), region, atol=1e-4, rtol=1e-5)


def test_sampling_is_differentiable_in_image_and_region():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 12, 12, generator=generator, dtype=torch.float64)
    region = square(6.1, 5.3, 4.2, 0.3).double()
    weights = torch.rand(1, 1, 5, 5, generator=generator, dtype=torch.float64)

    def value(image: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        return (sample_regions(image, region, 5) * weights).sum()

    image.requires_grad_(True)
    region.requires_grad_(True)
    assert torch.autograd.gradcheck(value, (image, region), eps=1e-6, atol=1e-5)
