"""Displacement becomes slopes, slopes become normals; checked on planes and by differences."""

import math

import pytest
import torch
from rendering.dome import texels

from lifemask.geometry.meshes import Mesh
from lifemask.rendering.displacement import (
    displaced_normals,
    displacement_slopes,
    groove_visibility,
    tangent_normals,
    texture_gradients,
    vertex_tangents,
)


def test_slopes_of_a_ramp_are_constant_inside() -> None:
    uv = texels(32)
    slopes = displacement_slopes((0.03 * uv[..., 0] - 0.02 * uv[..., 1])[None])
    assert slopes.shape == (1, 2, 32, 32)
    inner = slopes[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner[0], torch.full_like(inner[0], 0.03))
    torch.testing.assert_close(inner[1], torch.full_like(inner[1], -0.02))


def test_gradients_of_the_texture_are_those_of_a_scaled_plane() -> None:
    # A sheet of 0.2 x 0.1 m, u along x and v along -y, turned about z.
    corners = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, -0.1, 0.0], [0.2, -0.1, 0.0]])
    angle = 0.4
    turn = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle), 0.0],
            [math.sin(angle), math.cos(angle), 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    along_u, along_v = texture_gradients(corners @ turn.T, triangles, uv, triangles)
    for triangle in range(2):
        torch.testing.assert_close(along_u[triangle], turn @ torch.tensor([5.0, 0.0, 0.0]))
        torch.testing.assert_close(along_v[triangle], turn @ torch.tensor([0.0, -10.0, 0.0]))


def test_a_triangle_without_area_has_finite_gradients() -> None:
    points = torch.zeros(3, 3, requires_grad=True)
    corners = torch.tensor([[0, 1, 2]])
    gradients = texture_gradients(points, corners, torch.rand(3, 2), corners)
    torch.stack(gradients).sum().backward()
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    assert points.grad is not None
    assert bool(torch.isfinite(points.grad).all())


def flat(width: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of a square sheet: u along x, v along -y."""
    along_u, along_v = torch.tensor([width, 0.0, 0.0]), torch.tensor([0.0, -width, 0.0])
    return along_u[:, None, None], along_v[:, None, None]


def test_tangents_of_a_sheet_are_its_sides() -> None:
    corners = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.05, -0.1, 0.0], [0.25, -0.1, 0.0]])
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    along_u, along_v = vertex_tangents(Mesh(corners, triangles, uv, triangles))
    torch.testing.assert_close(along_u, torch.tensor([0.2, 0.0, 0.0]).expand(4, 3))
    torch.testing.assert_close(along_v, torch.tensor([0.05, -0.1, 0.0]).expand(4, 3))


def test_on_a_stretched_sheet_slopes_are_those_in_space() -> None:
    # A plane that rises by 0.3 along x and by -0.2 along y, on a sheared and stretched sheet.
    along_u, along_v = torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.05, -0.1, 0.0])
    uv = texels(32)
    places = uv[..., :1] * along_u + uv[..., 1:] * along_v
    height = 0.3 * places[..., 0] - 0.2 * places[..., 1]
    found = tangent_normals(height, along_u[:, None, None], along_v[:, None, None])
    expected = torch.nn.functional.normalize(torch.tensor([-0.3, 0.2, 1.0]), dim=0)
    inner = found[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, expected[:, None, None].expand_as(inner))


def test_normals_of_a_wave_are_those_of_its_formula() -> None:
    width, size = 0.1, 256
    uv = texels(size)
    waves = 6 * math.pi
    height = 1e-3 * (waves * uv[..., 0]).sin()
    found = tangent_normals(height, *flat(width))
    slope = 1e-3 * waves / width * (waves * uv[..., 0]).cos()
    expected = torch.stack([-slope, torch.zeros_like(slope), torch.ones_like(slope)])
    expected = expected / expected.norm(dim=0)
    torch.testing.assert_close(found[..., 1:-1], expected[..., 1:-1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.norm(dim=0), torch.ones(size, size))


def test_v_goes_down_and_y_up() -> None:
    # Higher towards the lower border: the surface leans up.
    found = tangent_normals(0.01 * texels(16)[..., 1], *flat(0.1))
    assert float(found[1, 8, 8]) > 0.05


def test_the_steepest_slope_is_held() -> None:
    found = tangent_normals(texels(16)[..., 0], *flat(0.1), steepest=0.5)
    torch.testing.assert_close(
        found[0, 8, 8] / found[2, 8, 8], torch.tensor(-0.5), atol=1e-5, rtol=0
    )


def test_a_share_of_nothing_leaves_the_smooth_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(3, 5, generator=generator), dim=0)
    slopes = torch.randn(2, 5, generator=generator)
    gradients = [torch.randn(3, 5, generator=generator) for _ in range(2)]
    torch.testing.assert_close(displaced_normals(normals, slopes, *gradients, share=0.0), normals)
    full = displaced_normals(normals, slopes, *gradients)
    assert float((full - normals).abs().max()) > 0.1


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    height = (torch.randn(6, 6, generator=generator) * 1e-3).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h: tangent_normals(h, *flat(0.1)), (height,), eps=1e-7, atol=1e-3
    )


def test_grooves_hide_light_and_ridges_do_not() -> None:
    texel = 0.00025
    across = (torch.arange(256) - 128.0) * texel
    groove = -0.0006 * torch.exp(-0.5 * (across / 0.001) ** 2).expand(256, -1)

    dark = groove_visibility(groove, texel)
    ridge = groove_visibility(-groove, texel)

    # From the bottom, the walls rise by about 0.55 mm within 1.5 mm: the cosine of that angle is 0.94.
    assert 0.88 < float(dark[128, 128]) < 0.96
    assert float(dark[128, 128 + 40]) > 0.995
    assert float(ridge[128, 128]) == 1.0
    assert float(groove_visibility(groove / 100, texel).min()) > 0.999


def test_grooves_hide_the_same_light_at_any_resolution() -> None:
    def darkest(texel: float) -> float:
        across = (torch.arange(round(0.064 / texel)) + 0.5) * texel - 0.032
        groove = -0.001 * torch.exp(-0.5 * (across / 0.002) ** 2)
        return float(groove_visibility(groove.expand(len(groove), -1), texel).min())

    assert darkest(0.00025) == pytest.approx(darkest(0.0005), abs=0.06)
