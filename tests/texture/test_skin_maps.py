"""Skin sees less light in hollows, and lips, nose and forehead shine; neither map has seams."""

from dataclasses import replace

import pytest
import torch
from tiny_head import tiny_head
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable import FaceCoefficients, MorphableModel
from lifemask.rendering.texture import sample_texture
from lifemask.texture.skin_maps import skin_image, skin_roughness, unhidden_vertices


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


def person(model: MorphableModel, seed: int | None) -> FaceCoefficients:
    neutral = model.neutral()
    if seed is None:
        return neutral
    generator = torch.Generator().manual_seed(seed)
    identity = torch.randn(neutral.identity.shape, generator=generator).clamp(-2.5, 2.5)
    return replace(neutral, identity=identity)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_hollows_of_everybody_are_darker_than_bulges(
    model: MorphableModel, seed: int | None
) -> None:
    unhidden = unhidden_vertices(model, person(model, seed))
    regions, (x, y, z) = model.regions, model.mean.T

    def mean(chosen: Tensor) -> float:
        assert bool(chosen.any())
        return float(unhidden[chosen].mean())

    skin = regions["skin"] > 0.5
    outside = skin & (regions["mouth_bag"] < 0.1)
    forehead = mean(outside & (y > 0.04) & (z > 0))
    down = vertex_normals(model.mean, model.triangles)[:, 1] < -0.8
    chin = mean(outside & down & (y < -0.08) & (x.abs() < 0.02) & (z < 0) & (z > -0.05))
    nostrils = mean(
        outside
        & down
        & (y < -0.035)
        & (y > -0.05)
        & (x.abs() > 0.004)
        & (x.abs() < 0.012)
        & (z > 0.02)
    )
    corners = mean(outside & (y.abs() < 0.006) & (x.abs() < 0.018) & (x.abs() > 0.012) & (z > 0))
    assert 0.95 < forehead <= 1
    assert mean(regions["mouth_bag"] > 0.9) < 0.1
    assert nostrils < 0.7
    assert chin < 0.9
    assert 0.4 < corners < 0.85
    assert mean(regions["ears"] > 0.9) < 0.85


def test_a_convex_head_hides_nothing_from_itself() -> None:
    head = tiny_head()
    assert float(unhidden_vertices(head, head.neutral()).min()) > 0.98


def test_lips_nose_and_forehead_shine_more_than_cheeks_and_those_more_than_ears(
    model: MorphableModel,
) -> None:
    roughness, regions, (x, y, z) = skin_roughness(model), model.regions, model.mean.T
    front = (regions["face"] > 0.9) & (regions["mouth_bag"] < 0.1)
    places = {
        "lips": front & (regions["lips"] > 0.95),
        "nose": front & (x.abs() < 0.006) & (y < -0.02) & (y > -0.04),
        "forehead": front & (x.abs() < 0.02) & ((y - 0.048).abs() < 0.01),
        "cheeks": front & (x.abs() > 0.04) & ((y + 0.035).abs() < 0.01) & (z > -0.02),
        "ears": regions["ears"] > 0.95,
        "scalp": regions["scalp"] > 0.95,
    }
    found = {name: float(roughness[where].mean()) for name, where in places.items()}
    assert all(0.39 < found[name] < 0.47 for name in ("lips", "nose", "forehead")), found
    assert 0.5 < found["cheeks"] < 0.55, found
    assert 0.6 < found["ears"] < 0.66, found
    assert 0.6 < found["scalp"] < 0.66, found


def test_no_seam_of_the_texture_shows(model: MorphableModel) -> None:
    """A vertex on a seam has several places in the texture; all have nearly its value."""
    values = torch.stack([unhidden_vertices(model, model.neutral()), skin_roughness(model)], -1)
    image = skin_image(model, values)
    chosen = slice(*model.triangle_parts["skin"])
    corners, places = model.triangles[chosen].flatten(), model.uv_triangles[chosen].flatten()
    vertices, places = torch.stack([corners, places], -1).unique(dim=0).T
    several = torch.bincount(vertices, minlength=len(model.mean))[vertices] > 1
    assert int(several.sum()) > 400
    read = sample_texture(image, model.uv[places].T[:, None])[:, 0].T
    away = (read - values[vertices])[several].abs()
    assert bool((away.mean(0) < torch.tensor([0.05, 0.01])).all())
    assert bool((away.amax(0) < torch.tensor([0.2, 0.05])).all())
