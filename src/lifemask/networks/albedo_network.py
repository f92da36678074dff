"""Separates skin and light of an unwrapped photo: a network in texture space.

It sees what the prior albedo under the light of nine harmonics leaves unexplained. Both of its answers
are complete: texels that the photo does not show get the albedo that suits the others.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.networks.encoder_decoder import EncoderDecoder

_LARGEST = 2.5
"""Largest log ratio of photo and prior that counts."""
_CHROMA_SHARE = 0.3
"""Outputs change the colour of the light by so much less than its strength."""


class AlbedoNetwork(nn.Module):
    """Unexplained log photo and its light to changes of log albedo and log light."""

    def __init__(self, *, levels: int, width: int) -> None:
        """Start from random weights; an untrained network changes nothing.

        Args:
            levels: how often the resolution is halved.
            width: channels at the full resolution.
        """
        super().__init__()
        self.layers = EncoderDecoder(12, 6, levels=levels, width=width)

    def forward(
        self,
        unexplained: Float[Tensor, "B 3 R R"],
        log_shading: Float[Tensor, "B 1 R R"],
        weight: Float[Tensor, "B R R"],
        cosine: Float[Tensor, "B R R"],
        level: Float[Tensor, "B 3"],
        position: Float[Tensor, "3 R R"],
    ) -> tuple[Float[Tensor, "B 3 R R"], Float[Tensor, "B 3 R R"]]:
        """Return the changes of the log albedo, and of the log light.

        Args:
            unexplained: log photo minus log prior albedo, level and log shading.
            log_shading: grey, of the light of nine harmonics.
            weight: how far each texel shows skin, 0 to 1.
            cosine: between normal and view.
            level: mean of log photo minus log prior albedo on the skin.
            position: of each texel on the mean head, about -1 to 1.
        """
        seen = weight[:, None]
        size = weight.shape[-2:]
        maps = torch.cat(
            [
                unexplained.clamp(-_LARGEST, _LARGEST) * seen,
                log_shading,
                seen,
                cosine[:, None],
                position.expand(len(weight), -1, -1, -1),
                level[..., None, None].expand(-1, -1, *size),
            ],
            1,
        )
        albedo, strength, chroma = self.layers(maps).split([3, 1, 2], 1)
        chroma = torch.cat([chroma, -chroma.sum(1, keepdim=True)], 1)
        return albedo, strength + _CHROMA_SHARE * chroma
