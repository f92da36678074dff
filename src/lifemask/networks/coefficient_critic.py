"""A critic that tells whether the numbers of a face belong to its image."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CoefficientCritic(nn.Module):
    """Fully connected layers of 512, 1024, 1024 and 1 numbers, as in Tu et al. (2019)."""

    def __init__(self, features: int, coefficients: int) -> None:
        """Start from random weights.

        Args:
            features: numbers that describe the image.
            coefficients: numbers that describe the face.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features + coefficients, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1024),
            nn.LeakyReLU(0.2),
            nn.Linear(1024, 1024),
            nn.LeakyReLU(0.2),
            nn.Linear(1024, 1),
        )

    def forward(
        self, features: Float[Tensor, "batch f"], coefficients: Float[Tensor, "batch c"]
    ) -> Float[Tensor, "batch"]:
        """Return the log odds that the coefficients are the true ones of the image."""
        return self.layers(torch.cat([features, coefficients], -1)).squeeze(-1)
