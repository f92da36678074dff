"""The residual networks are ResNet-50 and ResNet-18, and the last map can stay large."""

import torch

from lifemask.networks.residual_network import ResidualNetwork


def test_it_has_the_parameters_of_resnet50():
    with torch.device("meta"):
        network = ResidualNetwork()
    # 25,557,032 with the 2048 x 1000 weights and 1000 biases of the classes.
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - 2_049_000


def test_the_last_stride_decides_the_size_of_the_last_map():
    for stride, side in ((1, 8), (2, 4)):
        network = ResidualNetwork(input_channels=4, width=4, last_stride=stride).eval()
        images = torch.zeros(2, 4, 120, 120)
        assert network.blocks(network.stem(images)).shape == (2, 128, side, side)
        assert network(images).shape == (2, network.features)


def test_eighteen_layers_have_the_parameters_of_resnet18():
    with torch.device("meta"):
        network = ResidualNetwork(layers=18)
    # 11,689,512 with the 512 x 1000 weights and 1000 biases of the classes.
    assert sum(p.numel() for p in network.parameters()) + 513_000 == 11_689_512 + _WIDER_SHORTCUTS
    assert network(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 512)


# A block that halves the resolution reads 2 x 2 pixels beside it, not one.
_WIDER_SHORTCUTS = 3 * (64 * 128 + 128 * 256 + 256 * 512)
