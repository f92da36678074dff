"""Vertex attributes are interpolated with correct perspective, values and gradients."""

import pytest
import torch
from rendering import scenes

from lifemask.rendering import available_backends, interpolate, rasterize, rasterize_uv

BACKENDS = available_backends()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_linear_function_of_position_is_interpolated_exactly(backend):
    # Perspective-correct weights make x, y, z of the pixel's own ray: back-projecting agrees.
    mesh = scenes.head(dtype=torch.float64)
    camera = scenes.camera((40, 50), dtype=torch.float64)
    in_camera = camera.to_camera(mesh.vertices)
    fragments = rasterize(camera.project(mesh.vertices), mesh.triangles, (40, 50), backend=backend)
    linear = torch.tensor([[1.0, 2, -3], [0.5, -1, 4]], dtype=torch.float64)
    image = interpolate(in_camera @ linear.T + 7, mesh.triangles, fragments, backend=backend)
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(50) + 0.5, indexing="ij")
    ray = torch.stack([x, y], dim=-1).double() - camera.principal_point
    ray = torch.cat([ray / camera.focal_pixels, torch.ones(40, 50, 1)], dim=-1)
    expected = (ray * fragments.depth[..., None]) @ linear.T + 7
    mask = fragments.mask
    assert mask.any()
    torch.testing.assert_close(image.movedim(0, -1)[mask], expected[mask], rtol=1e-12, atol=1e-12)
    assert not image.movedim(0, -1)[~mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_match_finite_differences(backend):
    mesh = scenes.head(8, dtype=torch.float64)
    points = scenes.camera(20, dtype=torch.float64).project(mesh.vertices)
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(len(points), 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 20, 20, generator=generator, dtype=torch.float64)

    def loss(points, values):
        fragments = rasterize(points, mesh.triangles, (20, 20), backend=backend)
        return (interpolate(values, mesh.triangles, fragments, backend=backend) * weight).sum()

    leaves = [v.clone().requires_grad_() for v in (points, values)]
    loss(*leaves).backward()
    for k, scale in enumerate((1e-7, 1e-4)):
        step = torch.randn(leaves[k].shape, generator=generator, dtype=torch.float64) * scale
        inputs = [[points, values], [points, values]]
        inputs[0][k], inputs[1][k] = inputs[0][k] + step, inputs[1][k] - step
        expected = (loss(*inputs[0]) - loss(*inputs[1])) / 2
        actual = (leaves[k].grad * step).sum()
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-14)


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_backends_agree_on_values_and_gradients(channels):
    for seed in range(10):
        points, triangles = scenes.soup(seed)
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(2, len(points), channels, generator=generator)
        weight = torch.randn(2, channels, 40, 56, generator=generator)
        both = torch.stack([points, points.flip(0)])
        results = []
        for backend in ("torch", "numba"):
            leaves = [both.clone().requires_grad_(), values.clone().requires_grad_()]
            fragments = rasterize(leaves[0], triangles, (40, 56), cull="none", backend=backend)
            image = interpolate(leaves[1], triangles, fragments, backend=backend)
            (image * weight).sum().backward()
            results.append([image.detach(), *(leaf.grad for leaf in leaves)])
        for a, b in zip(*results, strict=True):
            scale = a.abs().amax()
            torch.testing.assert_close(a / scale, b / scale, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_attributes_without_batch_serve_every_image(backend):
    mesh = scenes.head()
    points = torch.stack([scenes.camera(24, yaw=y).project(mesh.vertices) for y in (0.0, 0.7)])
    fragments = rasterize(points, mesh.triangles, (24, 24), backend=backend)
    shared = torch.rand(mesh.uv.shape[0], 2, generator=torch.Generator().manual_seed(0))
    leaf, copies = shared.clone().requires_grad_(), shared.repeat(2, 1, 1).requires_grad_()
    once = interpolate(leaf, mesh.uv_triangles, fragments, backend=backend)
    twice = interpolate(copies, mesh.uv_triangles, fragments, backend=backend)
    assert once.shape == (2, 2, 24, 24)
    assert torch.equal(once, twice)
    weight = torch.rand(once.shape, generator=torch.Generator().manual_seed(1))
    (once * weight).sum().backward()
    (twice * weight).sum().backward()
    torch.testing.assert_close(leaf.grad, copies.grad.sum(0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_vertex_attributes_can_be_baked_into_a_texture(backend):
    # Each texel holds the point of the triangle whose uv it is, so its uv comes back.
    mesh = scenes.head()
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 32, backend=backend)
    uv = interpolate(mesh.uv, mesh.uv_triangles, fragments, backend=backend)
    v, u = torch.meshgrid(
        (torch.arange(32) + 0.5) / 32, (torch.arange(32) + 0.5) / 32, indexing="ij"
    )
    covered = fragments.mask
    assert covered.float().mean() > 0.8
    torch.testing.assert_close(uv[:, covered], torch.stack([u, v])[:, covered], rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_indices_out_of_range_are_refused(backend):
    points = torch.tensor([[0.0, 0, 1], [0, 16, 1], [16, 0, 1]])
    triangles = torch.tensor([[0, 0, 1], [0, 1, 2]])
    fragments = rasterize(points, triangles, (16, 16), backend=backend)
    with pytest.raises(IndexError):
        interpolate(points, triangles[:1], fragments, backend=backend)
    with pytest.raises(IndexError):
        interpolate(points[:2], triangles, fragments, backend=backend)
