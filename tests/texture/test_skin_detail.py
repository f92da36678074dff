"""Darker visible skin has a lower displacement."""

import dataclasses

import pytest
import torch

from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.texture.face_texture import FaceTexture, TexelOrigin
from lifemask.texture.skin_detail import normal_map


@pytest.fixture(scope="module")
def plain(face: FaceReconstruction) -> FaceTexture:
    """Return a texture of one colour, observed everywhere."""
    origin = torch.full_like(face.texture.origin, int(TexelOrigin.OBSERVED))
    return dataclasses.replace(
        face.texture, albedo=torch.full_like(face.texture.albedo, 0.3), origin=origin
    )


def cheek_texel(face: FaceReconstruction) -> tuple[int, int]:
    """Return row and column of a point of plain skin."""
    model = face.model
    vertex = int((model.mean - torch.tensor([0.035, -0.03, 0.03])).norm(dim=-1).argmin())
    u, v = model.uv[model.uv_triangles[model.triangles == vertex][0]].tolist()
    size = face.texture.albedo.shape[-1]
    return int(v * size), int(u * size)


def test_normals_are_unit_and_point_outwards(face: FaceReconstruction) -> None:
    normals = normal_map(face.texture, face.model, vertices=face.model.mean)
    torch.testing.assert_close(normals.norm(dim=0), torch.ones_like(normals[0]))
    assert normals[2].min() > 0.5


def test_even_colour_is_flat(face: FaceReconstruction, plain: FaceTexture) -> None:
    normals = normal_map(plain, face.model, vertices=face.model.mean)
    flat = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand_as(normals)
    torch.testing.assert_close(normals, flat, atol=1e-5, rtol=0)


def test_a_dark_line_is_a_groove(face: FaceReconstruction, plain: FaceTexture) -> None:
    """Normals beside the line point towards it; the map's green points up, against v."""
    row, column = cheek_texel(face)
    upright = plain.albedo.clone()
    upright[:, :, column] *= 0.5
    normals = normal_map(
        dataclasses.replace(plain, albedo=upright), face.model, vertices=face.model.mean
    )
    assert normals[0, row, column - 1] > 0.01
    assert normals[0, row, column + 1] < -0.01
    level = plain.albedo.clone()
    level[:, row] *= 0.5
    normals = normal_map(
        dataclasses.replace(plain, albedo=level), face.model, vertices=face.model.mean
    )
    assert normals[1, row - 1, column] < -0.01
    assert normals[1, row + 1, column] > 0.01


def test_texels_that_are_not_observed_are_flat(
    face: FaceReconstruction, plain: FaceTexture
) -> None:
    completed = dataclasses.replace(
        plain, albedo=face.texture.albedo, origin=torch.zeros_like(plain.origin)
    )
    assert normal_map(completed, face.model, vertices=face.model.mean)[:2].abs().max() == 0
