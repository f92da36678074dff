"""The landmark network starts at its layout, sees where its points are, and reads FaceMesh's features."""

import torch

from lifemask.networks.landmark_network import FIRST_SIGMA, INPUT_SIZE, LandmarkNetwork
from lifemask.perception.face_mesh import FaceMeshNetwork
from lifemask.perception.weights import load_network

LAYOUT = torch.tensor([[0.25, 0.25], [0.5, 0.5], [0.75, 0.6]])


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, INPUT_SIZE, INPUT_SIZE, generator=torch.Generator().manual_seed(0))


def network(**options: int) -> LandmarkNetwork:
    torch.manual_seed(0)
    return LandmarkNetwork(LAYOUT, hidden=16, **options)


def test_an_untrained_network_predicts_its_layout_with_the_first_deviation():
    output = network()(images())
    torch.testing.assert_close(output.first, LAYOUT.expand(2, -1, -1))
    torch.testing.assert_close(output.points, LAYOUT.expand(2, -1, -1))
    torch.testing.assert_close(output.log_sigma.exp(), torch.full((2, 3), FIRST_SIGMA))
    assert output.summary.shape == (2, 16)


def test_a_point_reads_the_image_around_its_own_place():
    built = network()
    torch.nn.init.normal_(built.correction.weight, std=0.3)
    torch.nn.init.zeros_(built.context.weight)
    first = images(1)
    second = first.clone()
    second[..., : INPUT_SIZE // 3, : INPUT_SIZE // 3] = 0.0
    moved = (built(first).points - built(second).points).abs().sum(-1)[0]
    assert moved[0].item() > 1e-5
    assert moved[2].item() < moved[0].item() / 20


def test_the_convolutions_are_those_of_face_mesh():
    built = network()
    built.start_from_face_mesh()
    known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    torch.testing.assert_close(built.stages.state_dict(), known.trunk.stages.state_dict())
    profile = dict(known.profile.stages[:3].named_parameters())
    for name, value in built.profile.named_parameters():
        assert torch.equal(value, profile[name])


def test_frozen_stages_get_no_gradient_and_all_else_does():
    built = network(frozen_stages=2)
    torch.nn.init.normal_(built.correction.weight, std=0.1)
    torch.nn.init.normal_(built.first.weight, std=0.1)
    output = built(images())
    (output.points.sum() + output.log_sigma.sum() + output.visible_logit.sum()).backward()
    for name, value in built.named_parameters():
        frozen = name.startswith(("stem", "activation", "stages.0", "stages.1"))
        assert value.requires_grad != frozen, name
        assert (value.grad is None) == frozen, name
