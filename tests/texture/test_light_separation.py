"""Dark and clipped pixels of a photo do not tell hues."""

import torch

from lifemask.io.colour import LUMINANCE
from lifemask.texture.light_separation import hue_told, with_trusted_hue


def test_dark_and_clipped_channels_tell_no_hue() -> None:
    pixels = torch.tensor(
        [[[0.3, 0.2, 0.1], [0.004, 0.001, 0.004]], [[0.5, 0.2, 0.003], [1, 0.9, 0.8]]]
    )
    told = hue_told(pixels.permute(2, 0, 1), torch.zeros(2, 2))
    torch.testing.assert_close(told, torch.tensor([[1.0, 0], [0, 0]]))


def test_false_chroma_goes_and_brightness_stays() -> None:
    """A purple texel whose dark channels tell nothing gets the hue of the smooth skin."""
    skin = torch.tensor([0.4, 0.25, 0.18]).log()[:, None, None].expand(3, 2, 2)
    purple = skin + torch.tensor([0.6, -1.2, 0.6])[:, None, None] - 0.5
    told = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    kept = with_trusted_hue(purple, skin, told, torch.zeros(2, 2))
    weights = torch.tensor(LUMINANCE)
    luminance = torch.einsum("c,chw->hw", weights, purple.exp())
    torch.testing.assert_close(torch.einsum("c,chw->hw", weights, kept.exp()), luminance)
    plain = skin[:, 0, 0] + (luminance[0, 0] / (weights @ skin[:, 0, 0].exp())).log()
    torch.testing.assert_close(kept[:, 0, 0], plain)
    away = kept[:, 0, 1] - kept[:, 0, 1].mean() - (plain - plain.mean())
    assert 0.05 < away.square().mean().sqrt() < 0.12


def test_a_channel_near_zero_does_not_blacken_saturated_skin() -> None:
    """A crease in orange light has almost no blue; what is left says how dark it is."""
    skin = torch.tensor([0.8, 0.3, 0.02]).log()[:, None, None].expand(3, 2, 2)
    crease = torch.tensor([0.5, 0.12, 0.001]).log()[:, None, None].expand(3, 2, 2)
    kept = with_trusted_hue(crease, skin, torch.zeros(2, 2), torch.zeros(2, 2)).exp()
    # The mean of the logarithms would give 0.23.
    assert 0.38 < kept[0, 0, 0] < 0.5


def test_red_lips_stay_red() -> None:
    red = torch.tensor([0.6, 0.01, 0.02])[:, None, None].expand(3, 2, 2)
    lips = torch.tensor([[1.0, 1], [0, 0]])
    told = hue_told(red, lips)
    torch.testing.assert_close(told[0], torch.ones(2))
    skin = torch.tensor([0.4, 0.25, 0.18]).log()[:, None, None].expand(3, 2, 2)
    kept = with_trusted_hue(red.log(), skin, told, lips)
    redness = (kept[0] - kept[1]).tolist()
    assert redness[0][0] > 3
    assert redness[1][0] < 1.2
