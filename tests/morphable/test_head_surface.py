"""The surface of a head has no lashes and one texture coordinate per vertex."""

import pytest
import torch

from lifemask.morphable.head_surface import opaque_mesh, opaque_triangles, vertex_uv
from lifemask.morphable.model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


def test_a_mesh_without_lashes_keeps_its_other_triangles(model: MorphableModel) -> None:
    solid = opaque_mesh(model, model.mean).triangles
    assert torch.equal(model.triangles[opaque_triangles(model)], solid)
    assert torch.equal(solid, model.triangles[: len(solid)])
    lashes = model.regions["lashes"] > 0.5
    assert lashes.any()
    assert not lashes[solid].any()


def test_a_vertex_has_the_texture_coordinate_of_its_last_corner(model: MorphableModel) -> None:
    found = vertex_uv(model)
    vertices, coordinates = model.triangles.flatten().tolist(), model.uv_triangles.flatten()
    last = {vertex: corner for corner, vertex in enumerate(vertices)}
    chosen = torch.tensor(list(last))
    expected = model.uv[coordinates[torch.tensor(list(last.values()))]]
    assert torch.equal(found[chosen], expected)
