"""Kernels are compiled completely in advance, and only when they are needed."""

import subprocess
import sys

import pytest
import torch
from rendering import scenes

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.rendering import (
    add_silhouette_gradients,
    available_backends,
    compile_kernels,
    interpolate,
    rasterize,
    rasterize_uv,
    render,
    render_colour,
    unwrap_photo,
)


@pytest.mark.skipif("numba" not in available_backends(), reason="numba is not installed")
def test_after_compiling_nothing_is_left_to_compile():
    from lifemask.rendering import triangle_kernels
    from lifemask.rendering._backends import _kernels

    def compiled():
        return {
            name: len(kernel.signatures)
            for name, kernel in (vars(_kernels) | vars(triangle_kernels)).items()
            if hasattr(kernel, "signatures")
        }

    compile_kernels()
    before = compiled()
    assert len(before) > 10
    mesh, camera = scenes.head(), scenes.camera(24)
    uv_fragments = rasterize_uv(mesh.uv, mesh.uv_triangles, 16)
    for count in (1, 2):
        vertices = mesh.vertices.repeat(count, 1, 1).requires_grad_()
        scene = Mesh(vertices, mesh.triangles, mesh.uv, mesh.uv_triangles)
        light = SphericalHarmonicsLight(torch.rand(9, 3, requires_grad=True))
        colours = torch.rand(len(mesh.vertices), 3, requires_grad=True)
        texture = torch.rand(3, 8, 8, requires_grad=True)
        points = camera.project(vertices)
        fragments = rasterize(points, mesh.triangles, (24, 24))
        losses = [
            render(scene, camera, vertex_colours=colours, light=light).normals.sum(),
            render(scene, camera, texture=texture, light=light).shading.sum(),
            render_colour(scene, camera, texture=texture[:, 1:], light=light)[0].square().sum(),
            interpolate(mesh.uv, mesh.uv_triangles, fragments).sum(),
            fragments.depth.sum(),
            unwrap_photo(torch.rand(count, 3, 24, 24), scene, camera, uv_fragments).texture.sum(),
            add_silhouette_gradients(
                fragments.mask[:, None].float(), points, mesh.triangles, fragments
            ).sum(),
        ]
        sum(losses).backward()
    assert compiled() == before


def test_importing_the_renderer_does_not_import_numba():
    program = "import sys, lifemask.rendering; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
