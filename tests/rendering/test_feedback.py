"""The drawing of an estimate names the points of the mean face, and shows the surface's normals."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.parameters import ParameterDecoder
from lifemask.rendering.feedback import Feedback, FeedbackRenderer

CROP, SIZE = 96, 384

SEEN = list(range(17, 31))
"""Points of the brows and of the bridge and tip of the nose: nothing hides them, and the skin does not
end there."""


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def mean_face(model: MorphableModel) -> ExplainedFace:
    decoder = ParameterDecoder.for_model(model, crop_size=CROP)
    return decoder(torch.zeros(1, decoder.outputs))


@pytest.fixture(scope="module")
def drawn(model: MorphableModel, mean_face: ExplainedFace) -> Feedback:
    return FeedbackRenderer(model)(mean_face, SIZE)


def at_landmarks(model: MorphableModel, face: ExplainedFace, image: Tensor) -> Tensor:
    """Return an image at some iBUG points of the mean face."""
    assert model.landmarks68 is not None
    points = model.landmarks68.points(model.mean, model.triangles)[SEEN]
    places = face.camera.project(points[None])[..., :2] * (2 / CROP) - 1
    sampled = torch.nn.functional.grid_sample(image, places[:, None], align_corners=False)
    return sampled[0, :, 0].T


def test_the_code_of_the_mean_face_is_its_normalised_coordinates(
    model: MorphableModel, mean_face: ExplainedFace, drawn: Feedback
):
    assert model.landmarks68 is not None
    region = model.regions["face"][model.triangles] > 0.5
    skin = model.mean[model.triangles[region.all(-1)].unique()]
    low, high = skin.amin(0), skin.amax(0)
    points = model.landmarks68.points(model.mean, model.triangles)[SEEN]
    expected = (points - low) / (high - low)
    found = at_landmarks(model, mean_face, drawn.code)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    assert drawn.code.min() >= -1e-4
    assert drawn.code.max() <= 1 + 1e-4


def test_normals_are_those_of_the_surface_in_light_axes(
    model: MorphableModel, mean_face: ExplainedFace, drawn: Feedback
):
    assert model.landmarks68 is not None
    seen = light_axes_from_camera(mean_face.camera.to_camera(model.mean[None]))[0]
    normals = vertex_normals(seen, model.triangles)
    nose = slice(27, 31)
    expected = model.landmarks68.points(normals, model.triangles)[nose]
    found = at_landmarks(model, mean_face, drawn.normals)[10:14]
    assert ((found * expected).sum(-1) > 0.97).all()
    # The bridge of a frontal nose looks to the viewer, and neither left nor right.
    assert found[:, 2].min() > 0.6
    assert found[:, 0].abs().max() < 0.15
    length = drawn.normals.norm(dim=1, keepdim=True)
    torch.testing.assert_close(length, drawn.mask)


def test_a_smaller_drawing_shows_the_same_frame(
    model: MorphableModel, mean_face: ExplainedFace, drawn: Feedback
):
    small = FeedbackRenderer(model)(mean_face, SIZE // 8)
    shrunk = torch.nn.functional.avg_pool2d(drawn.code, 8)
    inside = torch.nn.functional.avg_pool2d(drawn.mask, 8) == 1
    away = (small.code - shrunk)[inside.expand_as(shrunk)].abs()
    # More only beside the nose, where a cell shows two depths.
    assert away.quantile(0.99) < 0.02
    assert away.mean() < 0.003


def test_a_moved_face_moves_in_the_drawing(
    model: MorphableModel, mean_face: ExplainedFace, drawn: Feedback
):
    camera = mean_face.camera
    moved = replace(camera, principal_point=camera.principal_point + torch.tensor([12.0, 0.0]))
    found = FeedbackRenderer(model)(replace(mean_face, camera=moved), SIZE)
    shift = 12 * SIZE // CROP
    torch.testing.assert_close(found.code[..., shift:], drawn.code[..., :-shift], atol=1e-3, rtol=0)
