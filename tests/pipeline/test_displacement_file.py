"""The relief as a 16-bit picture, and as triangles."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_head import tiny_head

from lifemask.geometry.meshes import vertex_normals
from lifemask.io.scenes import Surface
from lifemask.pipeline.detailed_head import with_relief
from lifemask.pipeline.displacement_file import displacement_range_mm, encode_displacement


def test_a_picture_gives_the_displacement_back() -> None:
    """One of 65535 steps of 4 mm is 0.06 micrometres."""
    displacement = (torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.004
    range_mm = displacement_range_mm(displacement)
    assert range_mm == 4.0
    with Image.open(io.BytesIO(encode_displacement(displacement, range_mm))) as image:
        assert image.format == "PNG"
        assert image.mode == "I;16"
        values = np.asarray(image).astype(float)
    millimetres = (values / 65535 - 0.5) * range_mm
    np.testing.assert_allclose(millimetres, displacement.numpy() * 1000, atol=range_mm / 65535)


@pytest.mark.parametrize(("most", "expected"), [(0.0, 4), (0.002, 4), (0.0021, 6), (0.0101, 22)])
def test_the_range_holds_the_largest_displacement(most: float, expected: float) -> None:
    assert displacement_range_mm(torch.tensor([[0.0, -most], [0.0, 0.0]])) == expected


def smooth_surface() -> Surface:
    """Return the tiny head with one morph target that moves everything by 1 cm."""
    model = tiny_head()
    vertices = model.mean
    return Surface(
        vertices.numpy(),
        model.triangles.numpy(),
        normals=vertex_normals(vertices, model.triangles).numpy(),
        uv=model.uv.numpy(),
        uv_triangles=model.uv_triangles.numpy(),
        morphs=np.full((1, len(vertices), 3), 0.01, np.float32),
        joint_weights=np.ones((len(vertices), 1), np.float32),
    )


def test_finer_triangles_have_the_relief() -> None:
    """A wave across the texture moves the points along their normals by its height there."""
    surface = smooth_surface()
    columns = (torch.arange(256) + 0.5) / 256
    wave = (0.001 * torch.sin(columns * 40)).expand(256, 256).contiguous()
    everything = torch.ones(len(surface.positions), dtype=torch.bool)
    flat = with_relief(surface, everything, torch.zeros(256, 256))
    waved = with_relief(surface, everything, wave)
    assert len(waved.triangles) == 16 * len(surface.triangles)
    assert waved.uv is not None
    height = np.linalg.norm(waved.positions - flat.positions, axis=-1)
    expected = np.abs(0.001 * np.sin(waved.uv[:, 0] * 40))
    inside = (np.abs(waved.uv - 0.5) < 0.45).all(-1)
    np.testing.assert_allclose(height[inside], expected[inside], atol=2e-5)
    np.testing.assert_array_equal(flat.positions[: len(surface.positions)], surface.positions)
    assert waved.morphs is not None
    assert waved.joint_weights is not None
    np.testing.assert_allclose(waved.morphs, 0.01, rtol=1e-5)
    np.testing.assert_allclose(waved.joint_weights, 1, rtol=1e-5)


def test_only_the_face_gets_finer_triangles() -> None:
    surface = smooth_surface()
    face = torch.from_numpy(surface.positions[:, 1] > 0.03)
    finer = with_relief(surface, face, torch.zeros(16, 16))
    below = finer.positions[len(surface.positions) :, 1]
    assert below.min() > 0.025
    assert len(surface.triangles) < len(finer.triangles) < 16 * len(surface.triangles)
