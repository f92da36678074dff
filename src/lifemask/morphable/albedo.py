"""Skin colour without light: a linear model of log albedo in texture space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class AlbedoModel(nn.Module):
    """Textures exp(mean + sum of modes): always positive, and a tone change is a factor."""

    mean_log: Float[Tensor, "3 R R"]
    """Natural logarithm of the mean linear RGB albedo."""
    basis_log: Float[Tensor, "A 3 R R"]
    """Change of the log albedo per standard deviation."""

    def __init__(
        self, mean_log: Float[Tensor, "3 R R"], basis_log: Float[Tensor, "A 3 R R"]
    ) -> None:
        super().__init__()
        self.register_buffer("mean_log", mean_log)
        self.register_buffer("basis_log", basis_log)

    def texture(self, coefficients: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch 3 R R"]:
        """Return linear RGB textures in [0, 1] of coefficients in standard deviations."""
        log = self.mean_log + torch.tensordot(coefficients, self.basis_log, dims=1)
        return log.clamp(max=0).exp()
