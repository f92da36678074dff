"""Predicts the 52 ARKit expression scores from the dense face points with an MLP-Mixer.

Architecture as in MediaPipe's `face_blendshapes` (Tolstikhin et al., 2021, for the mixer).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS

# fmt: off
INPUT_POINTS: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
)
# fmt: on
"""The 146 of the 478 points that are the network's input."""


def mirrored_expressions() -> tuple[int, ...]:
    """Return for every expression the index of its mirror image: Left and Right are swapped."""
    twins = {name: index for index, name in enumerate(ARKIT_EXPRESSIONS)}
    for name in ARKIT_EXPRESSIONS:
        for side, other in (("Left", "Right"), ("Right", "Left")):
            if name.endswith(side):
                twins[name] = ARKIT_EXPRESSIONS.index(name.removesuffix(side) + other)
    return tuple(twins[name] for name in ARKIT_EXPRESSIONS)


class BlendshapeNetwork(nn.Module):
    """Scores of the network's 51 expressions in ARKit order, then zero for `tongueOut`."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(len(INPUT_POINTS), 96)
        self.channels = nn.Linear(2, 64)
        self.class_token = nn.Parameter(torch.zeros(1, 64))
        self.blocks = nn.ModuleList(_MixerBlock(97, 64) for _ in range(4))
        self.scores = nn.Linear(64, 52)
        self.register_buffer("input_scale", torch.ones(()))
        self.input_scale: Tensor

    def forward(self, points: Float[Tensor, "*batch 478 2"]) -> Float[Tensor, "*batch 52"]:
        """Return weights in 0..1 in the order of `ARKIT_EXPRESSIONS`.

        Args:
            points: x, y with the roll of the head removed; position and scale do not matter.
        """
        x = points[..., list(INPUT_POINTS), :]
        x = x - x.mean(-2, keepdim=True)
        x = x / x.norm(dim=-1, keepdim=True).mean(-2, keepdim=True) * self.input_scale
        x = self.channels(self.tokens(x.transpose(-1, -2)).transpose(-1, -2))
        x = torch.cat([self.class_token.expand(*x.shape[:-2], 1, 64), x], dim=-2)
        for block in self.blocks:
            x = block(x)
        # The first score is the network's "neutral"; tongueOut is not among its outputs.
        return F.pad(self.scores(x[..., 0, :]).sigmoid()[..., 1:], (0, 1))


class _MixerBlock(nn.Module):
    """Mix over tokens, then over channels, each behind a layer norm without offset."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(channels, eps=1e-6, bias=False)
        self.token_mlp = nn.Sequential(nn.Linear(tokens, 384), nn.ReLU(), nn.Linear(384, tokens))
        self.channel_norm = nn.LayerNorm(channels, eps=1e-6, bias=False)
        self.channel_mlp = nn.Sequential(
            nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mlp(self.token_norm(x).transpose(-1, -2)).transpose(-1, -2)
        return x + self.channel_mlp(self.channel_norm(x))
