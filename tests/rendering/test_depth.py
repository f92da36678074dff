"""Normals of depth images: planes and spheres have the normals of their formulas."""

import pytest
import torch
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.rendering.depth import depth_normals


def camera(size: int, focal: float, batch: tuple[int, ...] = ()) -> PerspectiveCamera:
    return PerspectiveCamera(
        torch.full(batch, focal),
        torch.full((*batch, 2), size / 2 + 1.5),
        torch.eye(4).expand(*batch, 4, 4),
        (size, size),
    )


def rays(size: int, focal: float) -> Tensor:
    """Return the point at depth 1 behind each pixel, camera axes."""
    steps = (torch.arange(size) + 0.5 - size / 2 - 1.5) / focal
    x, y = torch.meshgrid(steps, steps, indexing="xy")
    return torch.stack([x, y, torch.ones_like(x)], -1).double()


@pytest.mark.parametrize(
    "normal", [(0.0, 0.0, 1.0), (0.5, 0.0, 0.8), (0.0, -0.6, 0.7), (-0.4, 0.5, 0.6)]
)
def test_a_plane_has_its_normal_everywhere(normal: tuple[float, float, float]) -> None:
    size, focal = 24, 100.0
    in_light = torch.nn.functional.normalize(torch.tensor(normal).double(), dim=0)
    in_camera = in_light * torch.tensor([1.0, -1.0, -1.0])
    # n . (depth * ray) = n . point on the axis
    depth = 0.7 * in_camera[2] / (rays(size, focal) @ in_camera)
    assert float(depth.min()) > 0
    found = depth_normals(depth.float(), camera(size, focal))
    inner = found[:, 1:-1, 1:-1]
    torch.testing.assert_close(
        inner, in_light.float()[:, None, None].expand_as(inner), atol=1e-3, rtol=0
    )
    border = torch.ones(size, size, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert float(found[:, border].abs().max()) == 0


def test_a_sphere_has_the_normals_of_its_points() -> None:
    size, focal, middle, radius = 64, 400.0, torch.tensor([0.0, 0.0, 1.0]).double(), 0.06
    ray = rays(size, focal)
    a, b = (ray * ray).sum(-1), ray @ middle
    under_root = b * b - a * (middle @ middle - radius**2)
    depth = torch.where(under_root > 0, (b - under_root.clamp(min=0).sqrt()) / a, 0.0)
    found = depth_normals(depth.float(), camera(size, focal))
    outwards = (ray * depth[..., None] - middle) / radius * torch.tensor([1.0, -1.0, -1.0])
    expected = outwards.permute(2, 0, 1).float()
    front = (under_root > 0) & (expected[2] > 0.6) & (found != 0).any(0)
    assert float(front.float().mean()) > 0.2
    assert float((found - expected)[:, front].abs().max()) < 0.02


def test_a_hole_takes_the_normals_of_its_neighbours_too() -> None:
    depth = torch.full((9, 9), 0.8)
    depth[4, 4] = 0
    found = depth_normals(depth, camera(9, 50.0))
    empty = (found == 0).all(0)
    assert empty[4, 4]
    assert empty[3, 4]
    assert empty[4, 5]
    assert not empty[3, 3]


def test_batch_axes_are_its_images_one_by_one() -> None:
    depth = 0.8 + 0.05 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    together = depth_normals(depth, camera(8, 50.0, (2, 3)))
    assert torch.equal(together[1, 2], depth_normals(depth[1, 2], camera(8, 50.0)))


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = (0.8 + 0.01 * torch.rand(5, 5, generator=generator).double()).requires_grad_()
    seen = PerspectiveCamera(
        torch.tensor(50.0).double(), torch.full((2,), 2.5).double(), torch.eye(4).double(), (5, 5)
    )
    assert torch.autograd.gradcheck(lambda d: depth_normals(d, seen), (depth,), atol=1e-4)
