"""Compile the numba kernels before the first image."""

import time

import torch

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.rendering.backends import available_backends
from lifemask.rendering.images import render
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize


def compile_kernels() -> float:
    """Compile every kernel for float32, forward and backward, and return the seconds it took.

    The first call on a machine takes about ten seconds. The result is kept on disk, and later calls
    take less than a second. Without numba it does nothing.
    """
    start = time.perf_counter()
    if "numba" in available_backends():
        vertices = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 0, 1]], requires_grad=True)
        triangles = torch.tensor([[0, 1, 2]])
        mesh = Mesh(vertices, triangles, vertices[:, :2].detach(), triangles)
        camera = PerspectiveCamera(torch.tensor(4.0), torch.zeros(2), torch.eye(4), (4, 4))
        image = render(mesh, camera, texture=torch.ones(3, 2, 2, requires_grad=True))
        points = camera.project(vertices)
        fragments = rasterize(points, triangles, (4, 4))
        values = interpolate(points, triangles, fragments)
        (image.colour.sum() + image.depth.sum() + values.sum()).backward()
    return time.perf_counter() - start
