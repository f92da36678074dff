"""The rasteriser agrees with a ray caster, and its backends agree with each other."""

import os
import subprocess
import sys

import pytest
import torch
from rendering import scenes

from lifemask.rendering import available_backends, rasterize
from lifemask.rendering.backends import load_backend

BACKENDS = available_backends()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("yaw", [0.0, 0.5, 1.4, 3.0])
def test_coverage_and_depth_match_a_ray_caster(backend, yaw):
    mesh = scenes.head(dtype=torch.float64)
    camera = scenes.camera((48, 64), yaw=yaw, dtype=torch.float64)
    points = camera.project(mesh.vertices)
    fragments = rasterize(points, mesh.triangles, camera.image_size, backend=backend)

    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    rays = torch.stack([x, y], dim=-1).double() - camera.principal_point
    rays = torch.cat([rays / camera.focal_pixels, torch.ones(48, 64, 1)], dim=-1).reshape(-1, 3)
    index, depth = scenes.cast_rays(
        camera.to_camera(mesh.vertices), mesh.triangles, torch.zeros(3, dtype=torch.float64), rays
    )
    index, depth = index.view(48, 64), depth.view(48, 64)

    # Corners are snapped to 1/256 pixel, so pixel centres nearer to an edge may go either way.
    clear = scenes.distance_to_edges(points, mesh.triangles, camera.image_size) > 0.01
    assert clear.float().mean() > 0.9
    assert torch.equal(fragments.triangle_index[clear], index[clear])
    seen = clear & (index >= 0)
    assert 300 < seen.sum() < 2500
    torch.testing.assert_close(fragments.depth[seen], depth[seen], rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_triangles_with_common_edges_tile_the_plane_without_gap_or_overlap(backend):
    # Corners on a grid, many exactly on pixel centres: each pixel must belong to one triangle.
    step = torch.arange(0, 33, 4) - 0.5
    y, x = torch.meshgrid(step, step, indexing="ij")
    generator = torch.Generator().manual_seed(0)
    inner = torch.zeros(9, 9, 1)
    inner[1:-1, 1:-1] = 1
    jitter = torch.randint(-1, 2, (9, 9, 2), generator=generator) * inner
    points = torch.cat([torch.stack([x, y], dim=-1) + jitter, torch.ones(9, 9, 1)], dim=-1)
    corner = torch.arange(81).view(9, 9)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    triangles = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).reshape(-1, 3)
    flat = points.reshape(-1, 3)
    count = sum(
        rasterize(flat, t[None], (32, 32), cull="none", backend=backend).mask.int()
        for t in triangles
    )
    # The square spans -0.5 to 31.5, so it holds the pixel centres 0.5 to 30.5 and, by the
    # top-left rule, none beyond.
    assert torch.equal(count[:31, :31], torch.ones(31, 31, dtype=torch.int32))
    assert count.sum() == 31 * 31


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
def test_backends_agree_on_every_index_and_closely_on_numbers_and_gradients():
    for seed in range(40):
        points, triangles = scenes.soup(seed)
        generator = torch.Generator().manual_seed(seed)
        to_weights = torch.randn(40, 56, 3, generator=generator)
        to_depth = torch.randn(40, 56, generator=generator)
        cull = ("back", "front", "none")[seed % 3]
        results = []
        for backend in ("torch", "numba"):
            leaf = points.clone().requires_grad_()
            fragments = rasterize(leaf, triangles, (40, 56), cull=cull, backend=backend)
            loss = (fragments.barycentric * to_weights).sum() + (fragments.depth * to_depth).sum()
            loss.backward()
            results.append((fragments, leaf.grad))
        (a, grad_a), (b, grad_b) = results
        assert torch.equal(a.triangle_index, b.triangle_index)
        assert a.mask.any()
        torch.testing.assert_close(a.barycentric, b.barycentric, rtol=0, atol=1e-6)
        torch.testing.assert_close(a.depth, b.depth, rtol=1e-6, atol=1e-6)
        assert grad_a.isfinite().all()
        scale = grad_a.abs().amax()
        torch.testing.assert_close(grad_a / scale, grad_b / scale, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_corner_that_cannot_be_drawn_drops_its_triangles_only(backend):
    square = torch.tensor([[2.0, 2, 1], [2, 30, 1], [30, 2, 1], [30, 30, 1]])
    triangles = torch.tensor([[0, 1, 2], [2, 1, 3]])
    whole = rasterize(square, triangles, (32, 32), backend=backend)
    for strange in (-1.0, 0.0, torch.nan, torch.inf):
        points = square.clone()
        points[3, 2] = strange
        part = rasterize(points, triangles, (32, 32), backend=backend)
        expected = torch.where(whole.triangle_index == 0, 0, -1)
        assert torch.equal(part.triangle_index, expected)
    for strange in (torch.nan, torch.inf, -1e9):
        points = square.clone()
        points[3, 0] = strange
        part = rasterize(points, triangles, (32, 32), backend=backend)
        assert torch.equal(part.triangle_index == 0, whole.triangle_index == 0)
        assert not (part.triangle_index == 1).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_draw_gives_an_empty_image(backend):
    points = torch.tensor([[100.0, 100, 1], [110, 100, 1], [100, 110, 1]])
    for corners in (torch.tensor([[0, 1, 2]]), torch.zeros(0, 3, dtype=torch.int64)):
        leaf = points.clone().requires_grad_()
        fragments = rasterize(leaf, corners, (16, 24), cull="none", backend=backend)
        assert fragments.triangle_index.shape == (16, 24)
        assert not fragments.mask.any()
        assert not fragments.barycentric.any()
        assert not fragments.depth.any()
        (fragments.barycentric.sum() + fragments.depth.sum()).backward()
        assert not leaf.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nearest_triangle_wins_and_of_equal_ones_the_first(backend):
    corners = torch.tensor([[0.0, 0], [0, 16], [16, 0]])
    near, far = (torch.cat([corners, torch.full((3, 1), z)], dim=-1) for z in (1.0, 2.0))
    points = torch.cat([far, near, near])
    triangles = torch.tensor([[0, 1, 2], [4, 5, 3], [7, 8, 6]])
    fragments = rasterize(points, triangles, (16, 16), backend=backend)
    assert set(fragments.triangle_index.unique().tolist()) == {-1, 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_culling_leaves_out_the_side_it_names(backend):
    # The outside of this triangle faces the camera: counter-clockwise as seen, y pointing down.
    points = torch.tensor([[2.0, 2, 1], [2, 14, 1], [14, 2, 1]])
    outside, inside = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    for corners, seen in ((outside, ("front", "none")), (inside, ("back", "none"))):
        for cull in ("back", "front", "none"):
            drawn = rasterize(points, corners, (16, 16), cull=cull, backend=backend).mask.any()
            kept = {"back": "front", "front": "back", "none": "none"}[cull]
            assert bool(drawn) == (kept in seen)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_axes_are_free(backend):
    mesh = scenes.head()
    points = torch.stack(
        [scenes.camera(24, yaw=y).project(mesh.vertices) for y in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    )
    flat = rasterize(points, mesh.triangles, (24, 24), backend=backend)
    deep = rasterize(points.view(2, 3, -1, 3), mesh.triangles, (24, 24), backend=backend)
    assert deep.triangle_index.shape == (2, 3, 24, 24)
    assert torch.equal(deep.triangle_index.view(6, 24, 24), flat.triangle_index)
    for k in range(6):
        one = rasterize(points[k], mesh.triangles, (24, 24), backend=backend)
        assert one.barycentric.shape == (24, 24, 3)
        assert torch.equal(one.barycentric, flat.barycentric[k])


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_match_finite_differences(backend):
    mesh = scenes.head(8, dtype=torch.float64)
    camera = scenes.camera(24, dtype=torch.float64)
    points = camera.project(mesh.vertices)
    generator = torch.Generator().manual_seed(1)
    to_weights = torch.randn(24, 24, 3, generator=generator, dtype=torch.float64)
    to_depth = torch.randn(24, 24, generator=generator, dtype=torch.float64) * 10

    def loss(points):
        f = rasterize(points, mesh.triangles, (24, 24), backend=backend)
        return (f.barycentric * to_weights).sum() + (f.depth * to_depth).sum(), f.triangle_index

    leaf = points.clone().requires_grad_()
    value, index = loss(leaf)
    value.backward()
    scale = torch.tensor([1e-6, 1e-6, 1e-8], dtype=torch.float64)
    for _ in range(10):
        direction = torch.randn(points.shape, generator=generator, dtype=torch.float64) * scale
        above, index_above = loss(points + direction)
        below, index_below = loss(points - direction)
        assert torch.equal(index_above, index)
        assert torch.equal(index_below, index)
        expected = (above - below) / 2
        torch.testing.assert_close((leaf.grad * direction).sum(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_triangles_thinner_than_the_snap_give_no_huge_gradients(backend):
    points = torch.tensor([[1.0, 7.999, 1], [31, 8.0011, 1], [16, 8.0019, 1.5]]).requires_grad_()
    shifted = points + torch.tensor([0.0, 0.5, 0.0])
    fragments = rasterize(
        shifted, torch.tensor([[0, 1, 2]]), (16, 32), cull="none", backend=backend
    )
    weights = fragments.barycentric[fragments.mask]
    assert ((weights >= -0.07) & (weights <= 1.07)).all()
    (fragments.barycentric[..., 0].sum() + fragments.depth.sum()).backward()
    assert points.grad.isfinite().all()


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
def test_the_number_of_threads_does_not_change_the_result():
    mesh = scenes.head()
    camera = scenes.camera(40)
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            points = camera.project(mesh.vertices).expand(count, -1, -1)
            results = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                leaf = points.clone().requires_grad_()
                fragments = rasterize(leaf, mesh.triangles, (40, 40), backend="numba")
                (fragments.depth + fragments.barycentric[..., 0]).square().sum().backward()
                results.append((fragments, leaf.grad))
            (a, grad_a), (b, grad_b) = results
            assert torch.equal(a.triangle_index, b.triangle_index)
            assert torch.equal(a.barycentric, b.barycentric)
            torch.testing.assert_close(grad_a, grad_b, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
@pytest.mark.parametrize("writable", [True, False])
def test_a_read_only_cache_folder_does_not_break_compiling(tmp_path, writable):
    # No cache folder can be made below a file, and none of numba's own places is allowed here.
    blocked = tmp_path / "file"
    blocked.touch()
    temporary = tmp_path / "temporary"
    if writable:
        temporary.mkdir()
    else:
        temporary.touch()
    program = f"""
import tempfile
tempfile.tempdir = {str(temporary)!r}
import numba.core.caching as caching
class Nowhere(caching.UserWideCacheLocator):
    @classmethod
    def from_function(cls, function, file):
        return None
caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator, Nowhere]
from lifemask.rendering.jit import kernel
@kernel()
def double(x):
    return 2 * x
assert double(21) == 42
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(blocked / "cache")}
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert any(temporary.glob("lifemask-numba-*/**/*.nbc")) == writable


def test_wrong_options_say_what_is_allowed():
    points, triangles = torch.tensor([[0.0, 0, 1]] * 3), torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match="Known: 'auto'"):
        load_backend("opengl", torch.device("cpu"))
    with pytest.raises(ValueError, match="works on CPU tensors"):
        load_backend("numba", torch.device("meta"))
    with pytest.raises(ValueError, match="from 1 to 32768"):
        rasterize(points, triangles, (0, 8))
    for backend in BACKENDS:
        with pytest.raises(IndexError):
            rasterize(points, triangles + 1, (8, 8), backend=backend)
