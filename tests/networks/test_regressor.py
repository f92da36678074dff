"""An untrained regressor sees the mean face in every frame, and its features are FaceMesh's own."""

import pytest
import torch

from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.colour import linear_from_srgb
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_mesh_trunk import FaceMeshFeatures
from lifemask.networks.regressor import (
    STANDARD_DISTANCE_METRES,
    FaceRegressor,
    clamped_straight_through,
)
from lifemask.perception.face_mesh import FaceMeshNetwork
from lifemask.perception.framing import face_frame
from lifemask.perception.weights import load_network

SIZE = 96


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def regressor(model: MorphableModel) -> FaceRegressor:
    torch.manual_seed(0)
    return FaceRegressor.untrained(
        model, FaceMeshFeatures(input_size=128), crop_size=SIZE, hidden=32
    )


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_untrained_it_says_mean_face_frontal_at_standard_distance_in_white_light(
    model: MorphableModel, regressor: FaceRegressor
):
    estimate = regressor(noise(2, 3, 3, SIZE, SIZE))
    assert estimate.camera.focal_pixels.shape == (2, 3)
    for given in vars(estimate.coefficients).values():
        assert (given == 0).all()
    shading = estimate.light.coefficients[..., 0, :] * 0.28209479
    torch.testing.assert_close(shading, torch.ones(2, 3, 3))
    view = viewpoint_of(estimate.camera)
    frontal = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(2, 3, 3, 3)
    torch.testing.assert_close(view.rotation, frontal, atol=1e-5, rtol=0)
    torch.testing.assert_close(view.distance, torch.full((2, 3), STANDARD_DISTANCE_METRES))
    # Framed again, its dense points give the same frame: the whole crop.
    assert model.dense478 is not None
    points = model.dense478.points(model.mean, model.triangles)
    frame = face_frame(estimate.camera.project(points.expand(2, 3, 478, 3)))
    torch.testing.assert_close(frame.side, torch.full((2, 3), float(SIZE)), atol=0.5, rtol=0)
    torch.testing.assert_close(frame.centre, torch.full((2, 3, 2), SIZE / 2), atol=0.5, rtol=0)


def test_another_principal_point_shows_the_same_viewpoint(regressor: FaceRegressor):
    photo = noise(2, 3, SIZE, SIZE)
    middle = viewpoint_of(regressor(photo).camera)
    given = torch.tensor([[10.0, 200.0], [48.0, 48.0]])
    camera = regressor(photo, principal_point=given).camera
    torch.testing.assert_close(camera.principal_point, given)
    beside = viewpoint_of(camera)
    torch.testing.assert_close(beside.rotation, middle.rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(beside.translation, middle.translation, atol=1e-3, rtol=0)


def test_every_head_learns_from_the_first_step(regressor: FaceRegressor):
    estimate = regressor(noise(2, 3, SIZE, SIZE))
    given = [*vars(estimate.coefficients).values(), estimate.light.coefficients]
    given += [estimate.camera.world_to_camera, estimate.camera.focal_pixels]
    # Any slopes will do, but not the same for all: those of a rotation's entries cancel.
    total = sum((value * torch.rand_like(value)).sum() for value in given)
    (gradient,) = torch.autograd.grad(total, [regressor.heads.weight])
    # A rotation has three degrees of freedom: three of its six numbers start without effect.
    assert int((gradient.abs().sum(-1) == 0).sum()) == 3


def test_a_clamped_weight_finds_back():
    raw = torch.tensor([-0.5, 0.3, 1.7], requires_grad=True)
    clamped = clamped_straight_through(raw)
    torch.testing.assert_close(clamped.detach(), torch.tensor([0.0, 0.3, 1.0]))
    (gradient,) = torch.autograd.grad(clamped.sum(), [raw])
    torch.testing.assert_close(gradient, torch.ones(3))


def test_features_are_those_of_the_landmark_network():
    crops = noise(1, 3, 256, 256)
    known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    features = FaceMeshFeatures.from_pretrained()
    shared = known.trunk(crops)
    expected = torch.cat([known.frontal.stages(shared), known.profile.stages(shared)], 1)
    torch.testing.assert_close(features(linear_from_srgb(crops)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [128, 160, 192, 255, 256])
def test_the_side_of_the_last_map_is_known_beforehand(size: int):
    features = FaceMeshFeatures(input_size=size)
    side = features.output_size
    assert features(noise(1, 3, 32, 32)).shape == (1, 256, side, side)


def test_frozen_stages_get_no_gradient_and_the_others_do():
    for frozen in (2, 3, 5):
        features = FaceMeshFeatures(input_size=128, frozen_stages=frozen)
        features(noise(1, 3, 128, 128)).sum().backward()
        for branch in (features.frontal, features.profile):
            for stage, blocks in enumerate([*features.stages, *branch]):
                given = [p.grad is not None for p in blocks.parameters()]
                assert all(given) if stage >= frozen else not any(given)
        assert features.stem.weight.grad is None


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="input_size=16"):
        FaceMeshFeatures(input_size=16)
