"""Outlines have gradients that agree with finite differences of a loss."""

import pytest
import torch
from rendering import scenes

from lifemask.geometry.meshes import Mesh
from lifemask.rendering import add_silhouette_gradients, available_backends, rasterize, render

BACKENDS = available_backends()
SIZE = 64


def test_the_image_itself_is_unchanged():
    mesh, camera = scenes.head(), scenes.camera(SIZE)
    points = camera.project(mesh.vertices)
    fragments = rasterize(points, mesh.triangles, camera.image_size)
    image = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(add_silhouette_gradients(image, points, mesh.triangles, fragments), image)


def smooth_target(size):
    y, x = torch.meshgrid(
        (torch.arange(size) + 0.5) / size, (torch.arange(size) + 0.5) / size, indexing="ij"
    )
    return torch.stack([0.5 + 0.4 * torch.sin(5 * x + k) * torch.cos(4 * y - k) for k in range(3)])


def motions(mesh, count):
    """Return smooth motions (count, V, 3) of the vertices."""
    generator = torch.Generator().manual_seed(1)
    frequency = torch.randn(count, 3, 3, generator=generator) * 15
    phase = torch.rand(count, 1, 3, generator=generator) * 6
    return torch.sin(mesh.vertices @ frequency + phase)


@pytest.mark.parametrize("backend", BACKENDS)
def test_outline_gradients_point_where_finite_differences_of_the_loss_do(backend):
    mesh = scenes.head(10)
    colours = 0.2 + 0.7 * torch.rand(
        len(mesh.vertices), 3, generator=torch.Generator().manual_seed(2)
    )
    directions = motions(mesh, 24)

    def loss(vertices, size, edges, backend):
        camera = scenes.camera(size)
        scene = Mesh(vertices, mesh.triangles)
        image = render(scene, camera, vertex_colours=colours, backend=backend)
        composed = image.colour + (1 - image.mask) * 0.1
        if edges:
            points = camera.project(vertices)
            fragments = rasterize(points, mesh.triangles, (size, size), backend=backend)
            composed = add_silhouette_gradients(
                composed, points, mesh.triangles, fragments, backend=backend
            )
        return (composed - smooth_target(size)).square().mean()

    # Truth: differences over a finite motion of the same scene at 10 times the resolution.
    step = 2e-4
    with torch.no_grad():
        truth = torch.stack(
            [
                (
                    loss(mesh.vertices + step * d, 10 * SIZE, False, "auto")
                    - loss(mesh.vertices - step * d, 10 * SIZE, False, "auto")
                )
                / (2 * step)
                for d in directions
            ]
        )
    cosine = {}
    for edges in (False, True):
        leaf = mesh.vertices.clone().requires_grad_()
        loss(leaf, SIZE, edges, backend).backward()
        estimate = (directions * leaf.grad).sum((-1, -2))
        cosine[edges] = float(torch.cosine_similarity(estimate, truth, dim=0))
        size = float(estimate.norm() / truth.norm())
    assert cosine[True] > 0.95
    assert cosine[True] > cosine[False] + 0.1
    assert 0.8 < size < 1.25


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_loss_moves_the_outline_of_a_square_by_the_worked_amount(backend):
    # A square from 8.2 to 23.8: its area changes by its side of 15.6 px per pixel of each side.
    corners = torch.tensor([[8.2, 8.2], [23.8, 8.2], [8.2, 23.8], [23.8, 23.8]])
    points = torch.cat([corners, torch.ones(4, 1)], dim=-1).requires_grad_()
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    fragments = rasterize(points, triangles, (32, 32), backend=backend)
    mask = fragments.mask.float()[None]
    area = add_silhouette_gradients(mask, points, triangles, fragments, backend=backend).sum()
    area.backward()
    right = points.grad[[1, 3], 0].sum()
    left = points.grad[[0, 2], 0].sum()
    down = points.grad[[2, 3], 1].sum()
    for side, sign in ((right, 1), (left, -1), (down, 1)):
        assert abs(float(side) * sign - 15.6) < 0.9
    assert not points.grad[:, 2].any()


def test_triangles_named_as_no_outline_get_no_gradient():
    corners = torch.tensor([[8.0, 8], [24, 8], [8, 24], [24, 24]])
    points = torch.cat([corners, torch.ones(4, 1)], dim=-1).requires_grad_()
    triangles = torch.tensor([[0, 2, 1], [1, 2, 3]])
    fragments = rasterize(points, triangles, (32, 32))
    mask = fragments.mask.float()[None]
    without = torch.tensor([False, True])
    add_silhouette_gradients(mask, points, triangles, fragments, without=without).sum().backward()
    assert not points.grad[3].any()
    assert points.grad[0].any()
    points.grad = None
    without = torch.tensor([True, True])
    add_silhouette_gradients(mask, points, triangles, fragments, without=without).sum().backward()
    assert not points.grad.any()
