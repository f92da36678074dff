"""LPIPS: perceptual distance of two images, with learned weights on AlexNet's features.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018,
version 0.1 of the linear weights. Not shipped: the weights are built into the cache on request.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LPIPS(nn.Module):
    """Perceptual distance of image pairs. Differentiable; runs on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        self.weights = nn.ParameterList(torch.zeros(n) for n in (64, 192, 384, 256, 256))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]), persistent=False)
        self.shift: Tensor
        self.scale: Tensor

    def forward(
        self,
        images: Float[Tensor, "batch 3 H W"],
        references: Float[Tensor, "batch 3 H W"],
        *,
        weight: Float[Tensor, "batch 1 H W"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return one distance per pair; 0 for equal images.

        Args:
            images: sRGB in 0..1, at least 64 pixels along each side.
            references: images to compare with, the same.
            weight: of each pixel, 0..1; without it, all pixels count the same.
        """
        total = images.new_zeros(images.shape[0])
        pairs = zip(self._features(images), self._features(references), self.weights, strict=True)
        for a, b, channel_weights in pairs:
            difference = (_normalised(a) - _normalised(b)).square()
            distance = (difference * channel_weights[:, None, None]).sum(1, keepdim=True)
            if weight is None:
                total = total + distance.mean((1, 2, 3))
            else:
                here = F.interpolate(weight, size=distance.shape[-2:], mode="area")
                mass = here.sum((1, 2, 3)).clamp_min(1e-6)
                total = total + (distance * here).sum((1, 2, 3)) / mass
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        x = (images * 2.0 - 1.0 - self.shift[:, None, None]) / self.scale[:, None, None]
        features: list[Tensor] = []
        for index, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(F.max_pool2d(x, 3, stride=2) if index in (1, 2) else x))
            features.append(x)
        return features


def load_lpips(device: str | torch.device = "cpu") -> LPIPS:
    """Load AlexNet-LPIPS from the cache.

    Raises:
        FileNotFoundError: the weights are missing; the message names the command that builds them.
    """
    from lifemask.perception.weights import load_cached_network

    return load_cached_network(LPIPS(), "lpips_alex", device)


def _normalised(features: Tensor) -> Tensor:
    # The clamp keeps the square root's gradient finite if all features are zero.
    return features / features.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt()
