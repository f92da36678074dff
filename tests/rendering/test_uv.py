"""Photos are unwrapped to texture space, with the right visibility."""

import pytest
import torch
from rendering import scenes
from rendering.test_images import smooth_texture

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.rendering import (
    available_backends,
    interpolate,
    rasterize,
    rasterize_uv,
    render,
    unwrap_photo,
)

BACKENDS = available_backends()


@pytest.mark.parametrize("backend", BACKENDS)
def test_unwrapping_a_render_gives_back_the_texture_where_it_is_seen(backend):
    mesh, camera = scenes.head(), scenes.camera(400)
    texture = smooth_texture(size=64)
    photo = render(mesh, camera, texture=texture, backend=backend).colour
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 64, backend=backend)
    unwrapped = unwrap_photo(photo, mesh, camera, fragments, backend=backend)
    seen = (unwrapped.visibility > 0.99) & (unwrapped.cosine > 0.35)
    assert seen.float().mean() > 0.18
    error = (unwrapped.texture - texture).abs()[:, seen]
    assert error.max() < 0.04
    assert error.mean() < 0.005
    outside = ~fragments.mask
    assert not unwrapped.texture[:, outside].any()
    assert not unwrapped.visibility[outside].any()


@pytest.mark.parametrize("yaw", [0.0, 0.7, 1.3])
def test_visible_texels_are_those_a_ray_reaches(yaw):
    mesh, camera = (
        scenes.head(dtype=torch.float64),
        scenes.camera(256, yaw=yaw, dtype=torch.float64),
    )
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 32)
    photo = torch.zeros(1, 256, 256, dtype=torch.float64)
    unwrapped = unwrap_photo(photo, mesh, camera, fragments, margin_metres=0.001)
    in_camera = camera.to_camera(mesh.vertices)
    position = interpolate(in_camera, mesh.triangles, fragments).movedim(0, -1).reshape(-1, 3)
    _, length = scenes.cast_rays(
        in_camera, mesh.triangles, torch.zeros(3, dtype=torch.float64), position
    )
    # The ray is as long as the way to the texel, so it ends at 1 unless something is before it.
    gap = ((1 - length) * position.norm(dim=-1)).view(32, 32)
    covered, visibility = fragments.mask, unwrapped.visibility
    # Within a pixel of an outline, where the surface is seen edge-on, the answer is soft.
    cosine = unwrapped.cosine
    hidden = covered & (gap > 0.01) & ((cosine == 0) | (cosine > 0.15))
    assert hidden.float().mean() > 0.3
    assert (visibility[hidden] == 0).all()
    clear = covered & (gap < 1e-6) & (cosine > 0.4)
    assert clear.float().mean() > 0.12
    assert (visibility[clear] > 0.95).float().mean() > 0.97
    assert visibility[clear].mean() > 0.98


def test_the_cosine_is_that_of_normal_and_view():
    # A square of 0.2 m at 1 m, turned by 60 degrees; at its middle the view is along the axis.
    turned = torch.tensor(60.0).deg2rad()
    side = torch.tensor([-0.1, 0.1])
    y, x = torch.meshgrid(side, side, indexing="ij")
    vertices = torch.stack([x * turned.cos(), y, 1 + x * turned.sin()], dim=-1).reshape(-1, 3)
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    mesh = Mesh(vertices, triangles, uv, triangles)
    camera = PerspectiveCamera(
        torch.tensor(300.0), torch.tensor([32.0, 32.0]), torch.eye(4), (64, 64)
    )
    unwrapped = unwrap_photo(torch.ones(3, 64, 64), mesh, camera, rasterize_uv(uv, triangles, 33))
    assert abs(float(unwrapped.cosine[16, 16]) - 0.5) < 1e-3
    assert float(unwrapped.visibility[16, 16]) == 1
    # Its back side is not seen.
    behind = Mesh(vertices, triangles.flip(1), uv, triangles.flip(1))
    hidden = unwrap_photo(torch.ones(3, 64, 64), behind, camera, rasterize_uv(uv, triangles, 33))
    assert not hidden.visibility.any()


def test_texels_outside_the_photo_are_not_visible():
    mesh = scenes.head()
    camera = scenes.camera(64)
    half = camera.cropped(0, 0, (64, 32))
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 32)
    whole = unwrap_photo(torch.ones(3, 64, 64), mesh, camera, fragments)
    part = unwrap_photo(torch.ones(3, 64, 32), mesh, half, fragments)
    xy = camera.project(mesh.vertices)
    x = interpolate(xy[:, :1], mesh.triangles, fragments)[0]
    assert not part.visibility[x > 33].any()
    same = fragments.mask & (x < 30)
    torch.testing.assert_close(part.visibility[same], whole.visibility[same])


def test_a_reduced_texture_averages_the_pixels_it_covers():
    # Each texel sees 16 x 16 pixels of a fine checkerboard: grey, not one of its squares.
    vertices = torch.tensor([[-0.5, -0.5, 1], [0.5, -0.5, 1], [-0.5, 0.5, 1], [0.5, 0.5, 1]])
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    mesh = Mesh(vertices, triangles, uv, triangles)
    camera = PerspectiveCamera(
        torch.tensor(256.0), torch.tensor([128.0, 128.0]), torch.eye(4), (256, 256)
    )
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    board = ((x // 2 + y // 2) % 2).float()[None]
    fragments = rasterize_uv(uv, triangles, 16)
    unwrapped = unwrap_photo(board, mesh, camera, fragments)
    assert fragments.mask.all()
    torch.testing.assert_close(unwrapped.texture, torch.full((1, 16, 16), 0.5), rtol=0, atol=0.02)
    # At one texel per pixel the photo comes back.
    full = unwrap_photo(board, mesh, camera, rasterize_uv(uv, triangles, 256))
    torch.testing.assert_close(full.texture, board, rtol=0, atol=1e-3)


def test_batches_of_photos_unwrap_like_single_ones_and_gradients_reach_photo_and_vertices():
    mesh = scenes.head()
    cameras = [scenes.camera(48, yaw=yaw) for yaw in (0.0, 0.6)]
    stacked = PerspectiveCamera(
        torch.stack([c.focal_pixels for c in cameras]),
        torch.stack([c.principal_point for c in cameras]),
        torch.stack([c.world_to_camera for c in cameras]),
        (48, 48),
    )
    photos = smooth_texture(2, size=48)
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 24)
    leaves = [photos.clone().requires_grad_(), mesh.vertices.clone().requires_grad_()]
    scene = Mesh(leaves[1], mesh.triangles, mesh.uv, mesh.uv_triangles)
    both = unwrap_photo(leaves[0], scene, stacked, fragments)
    assert both.texture.shape == (2, 3, 24, 24)
    for k in range(2):
        one = unwrap_photo(photos[k], mesh, cameras[k], fragments)
        torch.testing.assert_close(both.texture[k], one.texture)
        torch.testing.assert_close(both.visibility[k], one.visibility)
        torch.testing.assert_close(both.cosine[k], one.cosine)
    both.texture.square().sum().backward()
    assert all(leaf.grad.isfinite().all() and leaf.grad.any() for leaf in leaves)


@pytest.mark.parametrize("resolution", [8, 96])
def test_gradients_reach_the_camera_of_coarse_and_of_fine_textures(resolution: int):
    mesh, plain = scenes.head(), scenes.camera(48, yaw=0.3)
    focal, middle, pose = (
        value.clone().requires_grad_()
        for value in (plain.focal_pixels, plain.principal_point, plain.world_to_camera)
    )
    camera = PerspectiveCamera(focal, middle, pose, (48, 48))
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, resolution)
    # The photo is its own coordinates, so a texel that moves one pixel changes by one.
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    found = unwrap_photo(torch.stack([x, y]), mesh, camera, fragments, magnification="bilinear")
    found.texture.sum().backward()
    seen = (found.visibility > 0).sum().to(middle)
    assert middle.grad is not None
    torch.testing.assert_close(middle.grad, seen.expand(2), rtol=1e-2, atol=0)
    for leaf in (focal, pose):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()


def test_a_photo_of_another_size_than_the_camera_is_refused():
    mesh, camera = scenes.head(), scenes.camera(32)
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 8)
    with pytest.raises(ValueError, match="crop the camera"):
        unwrap_photo(torch.zeros(3, 32, 33), mesh, camera, fragments)
    with pytest.raises(ValueError, match="has no uv"):
        unwrap_photo(torch.zeros(3, 32, 32), Mesh(mesh.vertices, mesh.triangles), camera, fragments)


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
def test_texture_space_is_rasterised_alike_by_all_backends():
    mesh = scenes.head(24)
    a, b = (rasterize_uv(mesh.uv, mesh.uv_triangles, 100, backend=k) for k in ("torch", "numba"))
    assert torch.equal(a.triangle_index, b.triangle_index)
    assert a.mask.float().mean() > 0.8
    direct = rasterize(
        torch.cat([mesh.uv * 100, torch.ones(len(mesh.uv), 1)], -1),
        mesh.uv_triangles,
        (100, 100),
        cull="none",
    )
    assert torch.equal(a.triangle_index, direct.triangle_index)


def test_a_huge_photo_is_unwrapped_like_a_large_one():
    # More than 2^24 pixels, which float32 cannot count; flat colour, so only visibility can differ.
    mesh = scenes.head()
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 16)
    results = []
    for width, height in ((5200, 4000), (1300, 1000)):
        camera = scenes.camera((height, width))
        photo = torch.full((1, height, width), 0.25)
        results.append(unwrap_photo(photo, mesh, camera, fragments))
    huge, large = results
    torch.testing.assert_close(huge.visibility, large.visibility, rtol=0, atol=0.3)
    assert (huge.visibility - large.visibility).abs().mean() < 0.01
    seen = huge.visibility > 0.9
    assert seen.float().mean() > 0.15
    torch.testing.assert_close(huge.texture[:, seen], torch.full_like(huge.texture[:, seen], 0.25))


def test_a_broken_vertex_hides_its_texels_and_no_others():
    mesh, camera = scenes.head(), scenes.camera(128)
    vertices = mesh.vertices.clone()
    vertices[len(vertices) // 2] = torch.nan
    broken = Mesh(vertices, mesh.triangles, mesh.uv, mesh.uv_triangles)
    fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 64)
    unwrapped = unwrap_photo(torch.ones(3, 128, 128), broken, camera, fragments)
    assert torch.isfinite(unwrapped.visibility).all()
    assert (unwrapped.visibility > 0.9).any()
