"""The U-Net starts at zero, keeps sizes, and sees both detail and the whole."""

import torch

from lifemask.networks.encoder_decoder import EncoderDecoder, StridedEncoder


def test_an_untrained_unet_says_zero_and_keeps_the_size():
    network = EncoderDecoder(4, 3, levels=3, width=4)
    found = network(torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(found, torch.zeros(2, 3, 32, 32))


def test_each_place_depends_on_its_own_texel_and_on_far_ones():
    torch.manual_seed(0)
    network = EncoderDecoder(1, 1, levels=3, width=4).eval()
    torch.nn.init.ones_(network.last.weight)
    maps = torch.rand(1, 1, 32, 32).requires_grad_()
    network(maps)[0, 0, 3, 3].backward()
    assert maps.grad is not None
    reach = maps.grad[0, 0].abs()
    assert reach[3, 3] > reach[20, 20] > 0


def test_a_strided_encoder_tells_the_same_spot_at_two_places_apart():
    torch.manual_seed(0)
    network = StridedEncoder(2, size=96, width=4).eval()
    maps = torch.zeros(2, 2, 96, 96)
    maps[0, :, 5, 5] = maps[1, :, 70, 20] = 9.0
    one, other = network(maps)
    assert one.shape == (network.features,)
    assert not torch.allclose(one, other)
