"""Untrained networks predict the mean face, and backbone features are those of FaceMesh."""

from dataclasses import replace

import pytest
import torch

from lifemask.geometry.tensors import named_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.colour import linear_from_srgb
from lifemask.morphable.model import MorphableModel
from lifemask.networks.coarse_net import PublishedCoarseNet
from lifemask.networks.face_mesh_backbone import FaceMeshBackbone
from lifemask.networks.face_trunk import ResidualBlock
from lifemask.networks.frozen import Frozen, frozen_digests
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import (
    LIMITS,
    STANDARD_DISTANCE_METRES,
    ParameterDecoder,
    clamped_straight_through,
)
from lifemask.networks.regression_head import RegressionHead
from lifemask.perception.face_mesh import FaceMeshNetwork
from lifemask.perception.framing import face_frame
from lifemask.perception.weights import load_network

SIZE = 96


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def decoder(model: MorphableModel) -> ParameterDecoder:
    return ParameterDecoder.for_model(model, crop_size=SIZE)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_outputs_of_zero_are_the_mean_face_frontal_at_standard_distance_in_white_light(
    model: MorphableModel, decoder: ParameterDecoder
):
    face = decoder(torch.zeros(2, 3, decoder.outputs))
    assert face.camera.focal_pixels.shape == (2, 3)
    for given in vars(face.coefficients).values():
        assert (given == 0).all()
    shading = face.light.coefficients[..., 0, :] * 0.28209479
    torch.testing.assert_close(shading, torch.ones(2, 3, 3))
    view = viewpoint_of(face.camera)
    frontal = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(2, 3, 3, 3)
    torch.testing.assert_close(view.rotation, frontal, atol=1e-5, rtol=0)
    torch.testing.assert_close(view.distance, torch.full((2, 3), STANDARD_DISTANCE_METRES))
    # Framed again, its dense points give the same frame: the whole crop.
    assert model.dense478 is not None
    points = model.dense478.points(model.mean, model.triangles)
    frame = face_frame(face.camera.project(points.expand(2, 3, 478, 3)))
    torch.testing.assert_close(frame.side, torch.full((2, 3), float(SIZE)), atol=0.5, rtol=0)
    torch.testing.assert_close(frame.centre, torch.full((2, 3, 2), SIZE / 2), atol=0.5, rtol=0)


def test_raw_outputs_of_a_face_decode_to_the_same_face(decoder: ParameterDecoder):
    raw = 1.5 * torch.randn(6, decoder.outputs, generator=torch.Generator().manual_seed(0))
    face = decoder(raw)
    again = decoder(decoder.raw(face))
    for name, value in named_tensors(face).items():
        torch.testing.assert_close(named_tensors(again)[name], value, atol=1e-4, rtol=1e-4)
    # What the decoder does not lose comes back as it was.
    linear = slice(100 + 52 + 4 + 17, 100 + 52 + 4 + 17 + 27)
    torch.testing.assert_close(decoder.raw(face)[:, linear], raw[:, linear], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder.raw(face)[:, :100], raw[:, :100], atol=1e-3, rtol=1e-3)


def test_raw_outputs_are_finite_for_faces_beyond_the_limits(decoder: ParameterDecoder):
    face = decoder(torch.zeros(1, decoder.outputs))
    far = replace(face.coefficients, identity=face.coefficients.identity + 9)
    raw = decoder.raw(replace(face, coefficients=far))
    torch.testing.assert_close(
        decoder(raw).coefficients.identity, torch.full((1, 100), 0.999 * LIMITS["identity"])
    )


def test_another_principal_point_shows_the_same_viewpoint(decoder: ParameterDecoder):
    raw = noise(2, decoder.outputs) - 0.5
    middle = viewpoint_of(decoder(raw).camera)
    given = torch.tensor([[10.0, 200.0], [48.0, 48.0]])
    camera = decoder(raw, principal_point=given).camera
    torch.testing.assert_close(camera.principal_point, given)
    beside = viewpoint_of(camera)
    torch.testing.assert_close(beside.rotation, middle.rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(beside.translation, middle.translation, atol=1e-3, rtol=0)


def test_every_output_learns_from_the_first_step(decoder: ParameterDecoder):
    head = RegressionHead(20, decoder.outputs, hidden=8)
    face = decoder(head(noise(2, 20)))
    given = [*vars(face.coefficients).values(), face.light.coefficients]
    given += [face.camera.world_to_camera, face.camera.focal_pixels]
    # Any slopes will do, but not the same for all: those of a rotation's entries cancel.
    total = sum((value * torch.rand_like(value)).sum() for value in given)
    (gradient,) = torch.autograd.grad(total, [head.outputs.weight])
    # A rotation has three degrees of freedom: three of its six numbers start without effect.
    assert int((gradient.abs().sum(-1) == 0).sum()) == 3


def test_raw_outputs_of_half_precision_are_decoded_in_float32(decoder: ParameterDecoder):
    raw = (noise(2, decoder.outputs) - 0.5).bfloat16()
    face = decoder(raw)
    assert face.camera.world_to_camera.dtype == torch.float32
    torch.testing.assert_close(
        face.camera.focal_pixels, decoder(raw.float()).camera.focal_pixels, atol=0, rtol=0
    )


def test_a_clamped_weight_finds_back():
    raw = torch.tensor([-0.5, 0.3, 1.7], requires_grad=True)
    clamped = clamped_straight_through(raw)
    torch.testing.assert_close(clamped.detach(), torch.tensor([0.0, 0.3, 1.0]))
    (gradient,) = torch.autograd.grad(clamped.sum(), [raw])
    torch.testing.assert_close(gradient, torch.ones(3))


def test_features_are_those_of_the_landmark_network():
    crops = noise(1, 3, 256, 256)
    known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    backbone = FaceMeshBackbone.from_pretrained()
    shared = known.trunk(crops)
    expected = torch.cat([known.frontal.stages(shared), known.profile.stages(shared)], 1)
    images = network_input(linear_from_srgb(crops), 256)
    torch.testing.assert_close(backbone(images), expected, atol=1e-3, rtol=1e-3)


def test_more_channels_change_nothing_at_first_and_learn():
    crops, more = noise(1, 3, 128, 128), noise(1, 2, 128, 128)
    plain = FaceMeshBackbone.from_pretrained(input_size=128)
    wide = FaceMeshBackbone.from_pretrained(input_size=128, input_channels=5)
    images = network_input(crops, 128, beside=more)
    torch.testing.assert_close(wide(images), plain(images[:, :3]), atol=1e-4, rtol=1e-4)
    wide(images).sum().backward()
    assert wide.stem.weight.grad is not None
    assert float(wide.stem.weight.grad[:, 3:].abs().max()) > 0


@pytest.mark.parametrize("size", [128, 160, 192, 255, 256])
def test_the_side_of_the_last_map_is_known_beforehand(size: int):
    backbone = FaceMeshBackbone(input_size=size)
    side = backbone.output_size
    assert backbone(network_input(noise(1, 3, 32, 32), size)).shape == (1, 256, side, side)
    assert backbone.features == 256 * side**2


def test_frozen_stages_get_no_gradient_and_the_others_do():
    for frozen in (2, 3, 5):
        backbone = FaceMeshBackbone(input_size=128, frozen_stages=frozen)
        backbone(noise(1, 3, 128, 128)).sum().backward()
        for branch in (backbone.frontal, backbone.profile):
            for stage, blocks in enumerate([*backbone.stages, *branch]):
                given = [p.grad is not None for p in blocks.parameters()]
                assert all(given) if stage >= frozen else not any(given)
        assert backbone.stem.weight.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 16}, "input_size=16"),
        ({"input_channels": 0}, "input_channels=0"),
        ({"input_channels": 4, "frozen_stages": 2}, "cannot learn to read other channels"),
    ],
)
def test_impossible_backbones_are_refused(options: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        FaceMeshBackbone(**options)


def test_frozen_modules_neither_learn_nor_are_stored_and_follow_the_others():
    class Stage(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = torch.nn.Linear(3, 3)
            self.before = Frozen(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.9)))

    stage = Stage()
    assert set(stage.state_dict()) == {"own.weight", "own.bias"}
    assert [name for name, _ in stage.named_parameters()] == ["own.weight", "own.bias"]
    stage.train()
    assert not stage.before.inner.training
    x = noise(1, 3).requires_grad_()
    # Gradients pass through it to what comes before.
    (gradient,) = torch.autograd.grad(stage.before(x).sum(), [x])
    assert float(gradient.abs().sum()) > 0
    digest = frozen_digests(stage)
    assert set(digest) == {"before"}
    stage.double()
    assert stage.before.inner[0].weight.dtype == torch.float64
    stage.float()
    assert frozen_digests(stage) == digest
    with torch.no_grad():
        stage.before.inner[0].bias += 1
    assert frozen_digests(stage) != digest


def test_a_residual_block_rounds_the_half_of_an_odd_side_up():
    block = ResidualBlock(2, 4, 2)
    assert block(noise(1, 2, 25, 25)).shape == (1, 4, 13, 13)
    assert block(noise(1, 2, 24, 25)).shape == (1, 4, 12, 13)


def test_the_published_coarse_net_has_thirteen_cells_and_the_size_of_the_paper():
    network = PublishedCoarseNet(7, 290)
    network.eval()
    cells = network.last(network.blocks(network.stem(noise(1, 7, 200, 200))))
    assert cells.shape == (1, 290, 13, 13)
    assert not network.head(network(noise(1, 7, 200, 200))).any()
    # The figure has about 3.7 million parameters.
    assert 3.5e6 < sum(p.numel() for p in network.parameters()) < 3.9e6
