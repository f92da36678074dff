"""Rendered images agree with their parts, and their gradients with finite differences."""

import pytest
import torch
from rendering import scenes
from torch.nn.functional import max_pool2d

from lifemask.geometry.cameras import rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.rendering import (
    available_backends,
    interpolate,
    rasterize,
    render,
    render_colour,
    sample_texture,
    shade_normals,
)

BACKENDS = available_backends()
FIELDS = ("colour", "mask", "albedo", "shading", "normals", "depth")


def smooth_texture(*batch, dtype=torch.float32, size=24):
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(*batch, 3, 6, 6, generator=generator, dtype=torch.float64)
    image = torch.nn.functional.interpolate(
        coarse.reshape(-1, 3, 6, 6), size=(size, size), mode="bicubic", align_corners=False
    )
    return image.reshape(*batch, 3, size, size).to(dtype)


def some_light(*batch, dtype=torch.float32):
    generator = torch.Generator().manual_seed(6)
    base = SphericalHarmonicsLight.from_direction(0.5, 0.3).coefficients
    noise = torch.randn(*batch, 9, 3, generator=generator) * 0.1
    return SphericalHarmonicsLight((base + noise).to(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_moving_head_and_camera_together_leaves_every_image_unchanged(backend):
    mesh, camera = scenes.head(dtype=torch.float64), scenes.camera(48, dtype=torch.float64)
    rotation = matrix_from_rotation_vector(torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64))
    shift = torch.tensor([0.3, -2.0, 1.1], dtype=torch.float64)
    both = Mesh(mesh.vertices @ rotation.T + shift, mesh.triangles, mesh.uv, mesh.uv_triangles)
    back = rigid_transform(rotation.T, -rotation.T @ shift)
    moved = scenes.moved(camera, world_to_camera=camera.world_to_camera @ back)
    inputs = {
        "texture": smooth_texture(dtype=torch.float64),
        "light": some_light(dtype=torch.float64),
        "backend": backend,
    }
    before, after = render(mesh, camera, **inputs), render(both, moved, **inputs)
    assert before.mask.sum() > 500
    for field in FIELDS:
        torch.testing.assert_close(
            getattr(before, field), getattr(after, field), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_render_is_the_product_of_its_parts(backend):
    mesh, camera = scenes.head(), scenes.camera(40)
    texture, light = smooth_texture(), some_light()
    image = render(mesh, camera, texture=texture, light=light, backend=backend)
    fragments = rasterize(camera.project(mesh.vertices), mesh.triangles, (40, 40), backend="torch")
    uv = interpolate(mesh.uv, mesh.uv_triangles, fragments, backend="torch")
    albedo = sample_texture(texture, uv) * fragments.mask
    close = {"rtol": 1e-5, "atol": 1e-5}
    assert torch.equal(image.mask, fragments.mask.float())
    torch.testing.assert_close(image.albedo, albedo, **close)
    torch.testing.assert_close(image.depth, fragments.depth, **close)
    torch.testing.assert_close(image.shading, shade_normals(image.normals, light), **close)
    torch.testing.assert_close(image.colour, image.albedo * image.shading, **close)
    length = image.normals.norm(dim=0)
    torch.testing.assert_close(length, fragments.mask.float(), **close)
    # The middle of the head faces the viewer; its left border in the image faces left.
    columns = fragments.mask[20].nonzero()[:, 0]
    assert image.normals[2, 20, columns[len(columns) // 2]] > 0.7
    assert image.normals[0, 20, columns[0]] < -0.7
    rows = fragments.mask[:, 20].nonzero()[:, 0]
    assert image.normals[1, rows[0], 20] > 0.6


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba is not installed")
@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_pass_gives_the_images_and_gradients_of_the_parts(coloured, shared, threads):
    mesh, camera = scenes.head(), scenes.camera((40, 48))
    generator = torch.Generator().manual_seed(3)
    vertices = mesh.vertices + 0.002 * torch.randn(3, *mesh.vertices.shape, generator=generator)
    batch = () if shared else (3,)
    paint = (
        torch.rand(*batch, len(mesh.vertices), 3, generator=generator)
        if coloured
        else smooth_texture(*batch)
    )
    light = some_light(*batch).coefficients
    weights = {
        field: torch.randn(3, *(() if field == "depth" else (3,)), 40, 48, generator=generator)
        for field in ("colour", "albedo", "shading", "normals", "depth")
    }
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for fields in (tuple(weights), ("normals",), ("depth", "shading"), ("colour",)):
            results = []
            for backend in ("torch", "numba"):
                leaves = [v.clone().requires_grad_() for v in (vertices, paint, light)]
                scene = Mesh(leaves[0], mesh.triangles, mesh.uv, mesh.uv_triangles)
                look = {"vertex_colours" if coloured else "texture": leaves[1]}
                image = render(
                    scene,
                    camera,
                    **look,
                    light=SphericalHarmonicsLight(leaves[2]),
                    backend=backend,
                )
                sum((getattr(image, f) * weights[f]).sum() for f in fields).backward()
                results.append((image, leaves))
            (a, leaves_a), (b, leaves_b) = results
            for field in FIELDS:
                torch.testing.assert_close(
                    getattr(a, field), getattr(b, field), rtol=1e-4, atol=1e-5
                )
            for x, y in zip(leaves_a, leaves_b, strict=True):
                assert (x.grad is None or not x.grad.any()) == (y.grad is None or not y.grad.any())
                if x.grad is not None and x.grad.any():
                    assert (x.grad - y.grad).norm() < 2e-3 * x.grad.norm()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("coloured", [False, True])
def test_gradients_match_finite_differences(backend, coloured):
    size = 48
    mesh = scenes.head(10, dtype=torch.float64)
    camera = scenes.camera(size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    paint = (
        torch.rand(len(mesh.vertices), 3, generator=generator, dtype=torch.float64)
        if coloured
        else smooth_texture(dtype=torch.float64)
    )
    start = {
        "vertices": mesh.vertices,
        "paint": paint,
        "light": some_light(dtype=torch.float64).coefficients,
        "focal_pixels": camera.focal_pixels,
        "principal_point": camera.principal_point,
        "world_to_camera": camera.world_to_camera,
    }

    def draw(values):
        scene = Mesh(values["vertices"], mesh.triangles, mesh.uv, mesh.uv_triangles)
        look = {"vertex_colours" if coloured else "texture": values["paint"]}
        light = SphericalHarmonicsLight(values["light"])
        return render(scene, scenes.moved(camera, **values), **look, light=light, backend=backend)

    # Outlines have no gradient here, so only pixels well inside and off occluding edges count.
    first = draw(start)
    outside = max_pool2d(1 - first.mask[None], 5, 1, 2)[0]
    depth = first.depth[None]
    jump = (max_pool2d(depth, 5, 1, 2) + max_pool2d(-depth, 5, 1, 2))[0] > 0.05
    weight = torch.rand(3, size, size, generator=generator, dtype=torch.float64)
    weight = weight * (outside == 0) * ~jump
    assert (weight[0] > 0).sum() > 300

    def loss(values):
        image = draw(values)
        pixels = (image.colour - 0.5).square() + image.normals * 0.3 + image.shading * 0.2
        return ((pixels + image.albedo + image.depth) * weight).sum()

    leaves = {k: v.clone().requires_grad_() for k, v in start.items()}
    loss(leaves).backward()
    for name, scale in (
        ("vertices", 1e-9), ("paint", 1e-5), ("light", 1e-5), ("focal_pixels", 1e-6),
        ("principal_point", 1e-7), ("world_to_camera", 1e-9),
    ):  # fmt: skip
        for _ in range(3):
            step = torch.randn(start[name].shape, generator=generator, dtype=torch.float64) * scale
            if name == "world_to_camera":
                step[3] = 0
            ends = [loss({**start, name: start[name] + sign * step}) for sign in (1, -1)]
            expected = (ends[0] - ends[1]) / 2
            actual = (leaves[name].grad * step).sum()
            torch.testing.assert_close(actual, expected, rtol=2e-4, atol=1e-9 * scale)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_axes_of_mesh_camera_texture_and_light_broadcast(backend):
    mesh = scenes.head()
    camera = scenes.camera(24)
    light = some_light(2, 1)
    texture = smooth_texture(3)
    images = render(mesh, camera, texture=texture, light=light, backend=backend)
    assert images.colour.shape == (2, 3, 3, 24, 24)
    assert images.mask.shape == (2, 3, 24, 24)
    for i in range(2):
        for j in range(3):
            one = render(
                mesh,
                camera,
                texture=texture[j],
                light=SphericalHarmonicsLight(light.coefficients[i, 0]),
                backend=backend,
            )
            torch.testing.assert_close(images.colour[i, j], one.colour)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_light_and_paint_the_mesh_is_white(backend):
    image = render(scenes.head(), scenes.camera(24), backend=backend)
    inside = image.mask.bool()
    torch.testing.assert_close(image.colour[:, inside], torch.ones(3, int(inside.sum())))
    assert not image.colour[:, ~inside].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_render_colour_gives_the_colour_and_mask_of_render(backend):
    mesh, camera = scenes.head(), scenes.camera(32)
    look = {"texture": smooth_texture(), "light": some_light(), "backend": backend}
    full = render(mesh, camera, **look)
    colour, mask = render_colour(mesh, camera, **look)
    assert torch.equal(colour, full.colour)
    assert torch.equal(mask, full.mask)


def test_contradicting_inputs_are_refused():
    mesh, camera = scenes.head(), scenes.camera(8)
    colours = torch.ones(len(mesh.vertices), 3)
    with pytest.raises(ValueError, match="give one of them"):
        render(mesh, camera, texture=smooth_texture(), vertex_colours=colours)
    with pytest.raises(ValueError, match="has no uv"):
        render(Mesh(mesh.vertices, mesh.triangles), camera, texture=smooth_texture())
