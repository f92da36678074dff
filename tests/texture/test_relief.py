"""Normals become the displacement that has them, on skin and nowhere else."""

import math
from dataclasses import replace

import pytest
import torch

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.pipeline.views import camera_towards
from lifemask.rendering.heads import HeadImages, head_surface, render_head
from lifemask.texture.atlas import head_atlas
from lifemask.texture.relief import MOST_METRES, integrated, relief_map, with_deeper_grooves

SIZE = 512


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def smooth(model: MorphableModel) -> ExplainedFace:
    camera = camera_towards(model.mean[model.regions["face"] > 0.5], 0.8, pixels_per_metre=1500.0)
    return ExplainedFace(model.neutral(), camera, SphericalHarmonicsLight.ambient())


def drawn(model: MorphableModel, face: ExplainedFace) -> HeadImages:
    return render_head(head_surface(model, face), face.camera)


def relief_of(model: MorphableModel, face: ExplainedFace, seen: HeadImages) -> UVMap:
    vertices = model.vertices(face.coefficients)
    return relief_map(seen.fine.normals, seen.fine.mask, face.camera, vertices, model, size=SIZE)


def test_a_height_is_found_again_from_its_slopes() -> None:
    steps = torch.arange(96) / 96 * 2 * math.pi
    height = torch.sin(3 * steps)[:, None] * torch.cos(2 * steps)
    by_row = 3 * torch.cos(3 * steps)[:, None] * torch.cos(2 * steps) * (2 * math.pi / 96)
    by_column = torch.sin(3 * steps)[:, None] * -2 * torch.sin(2 * steps) * (2 * math.pi / 96)
    found = integrated(by_column, by_row, 1e4)
    assert (found - found.mean() - height + height.mean()).abs().max() < 0.02


def test_wide_heights_are_left_out() -> None:
    ramp = torch.full((64, 64), 0.1)
    free, held = (integrated(ramp, torch.zeros(64, 64), widest) for widest in (1e4, 4.0))
    assert held.abs().max() < 0.2 * free.abs().max()


def test_grooves_become_deeper_and_pits_and_bumps_stay() -> None:
    scale = 3.8
    rows, columns = (
        (torch.arange(256) - 128.0)[:, None] / scale,
        (torch.arange(256) - 128.0) / scale,
    )
    line = -0.0003 * torch.exp(-0.5 * (columns / 0.6) ** 2).expand(256, -1)
    pit = -0.0003 * torch.exp(-0.5 * (rows**2 + columns**2) / 0.6**2)

    deeper, same, bump = (with_deeper_grooves(h, 1.0, scale) for h in (line, pit, -pit))

    assert 1.5 < float(deeper[128, 128] / line[128, 128]) < 2.9
    assert float(same[128, 128] / pit[128, 128]) < 1.15
    assert float((bump + pit).abs().max()) < 0.1 * float(pit.abs().max())
    lowest = float(with_deeper_grooves(20 * line, 1.0, scale).min())
    assert lowest == pytest.approx(-MOST_METRES)


def test_a_bump_on_the_cheek_is_found_again(model: MorphableModel, smooth: ExplainedFace) -> None:
    atlas = head_atlas(model, SIZE)
    place = torch.tensor([0.035, -0.03])
    away = (atlas.position[:2] - place[:, None, None]).norm(dim=0)
    bump = 0.0008 * torch.exp(-0.5 * (away / 0.005) ** 2) * atlas.fragments.mask
    bump = bump * (atlas.position[2] > 0)
    raised = replace(smooth, displacement_map=UVMap(bump[None], torch.ones(SIZE, SIZE)))
    found = relief_of(model, smooth, drawn(model, raised)).values[0]
    near = bump > 0.0001
    relation = torch.corrcoef(torch.stack([found[near], bump[near]]))[0, 1]
    assert relation > 0.97
    assert 0.7 < float(found.max() / bump.max()) < 1.15
    again = drawn(
        model, replace(smooth, displacement_map=UVMap(found[None], torch.ones(SIZE, SIZE)))
    )
    wanted, flat = drawn(model, raised).fine.normals, drawn(model, smooth).fine.normals
    change = (flat - wanted).norm(dim=0)
    missed = (again.fine.normals - wanted).norm(dim=0)
    on_bump = change > 0.03
    assert on_bump.any()
    assert missed[on_bump].mean() < 0.3 * change[on_bump].mean()


def test_the_normals_of_the_head_itself_give_no_relief(
    model: MorphableModel, smooth: ExplainedFace
) -> None:
    found = relief_of(model, smooth, drawn(model, smooth))
    assert found.values.abs().max() < 0.0003
    assert found.values.abs().mean() < 0.00001


def test_where_no_skin_is_seen_nothing_changes(
    model: MorphableModel, smooth: ExplainedFace
) -> None:
    seen = drawn(model, smooth)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(seen.fine.normals.shape, generator=generator)
    wild = torch.nn.functional.normalize(seen.fine.normals + noise, dim=0)
    vertices = model.vertices(smooth.coefficients)
    hidden = torch.zeros_like(seen.fine.mask)
    args = (smooth.camera, vertices, model)
    assert relief_map(wild, hidden, *args, size=SIZE).values.abs().max() == 0
    rough = relief_map(wild, seen.fine.mask, *args, size=SIZE).values
    assert rough.isfinite().all()
    assert 0 < rough.abs().max() <= MOST_METRES
    assert rough[0][head_atlas(model, SIZE).position[2] < -0.1].abs().max() == 0
