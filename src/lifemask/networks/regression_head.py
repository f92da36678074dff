"""From the features of a backbone to as many numbers as asked for."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RegressionHead(nn.Module):
    """One hidden layer and linear outputs that start at zero.

    The outputs read the features directly as well as the hidden layer: the positions of points are
    linear in FaceMesh's features already.
    """

    def __init__(self, features: int, outputs: int, *, hidden: int = 512) -> None:
        """Assemble an untrained head, whose outputs are all 0.

        Args:
            features: numbers that come in.
            outputs: numbers that go out.
            hidden: width of the hidden layer.
        """
        super().__init__()
        self.level = nn.LayerNorm(features)
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.PReLU(hidden))
        self.outputs = nn.Linear(features + hidden, outputs)
        nn.init.zeros_(self.outputs.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, features: Float[Tensor, "batch *map"]) -> Float[Tensor, "batch outputs"]:
        """Return the outputs; the axes of the map are flattened."""
        features = self.level(features.flatten(1))
        return self.outputs(torch.cat([features, self.hidden(features)], dim=-1))
