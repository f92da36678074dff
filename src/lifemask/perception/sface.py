"""SFace: a second, independent identity embedding, to evaluate models trained with the first.

Sigmoid-constrained hypersphere loss (Zhong et al., 2021) on a MobileNet, as in OpenCV Zoo's
`face_recognition_sface_2021dec`. Not shipped: the weights are built into the cache on request.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHIP_SIZE = 112
"""Pixels along each side of the aligned chip."""

CHIP_TEMPLATE: tuple[tuple[float, float], ...] = (
    (38.2946 / 112, 51.6963 / 112),
    (73.5318 / 112, 51.5014 / 112),
    (56.0252 / 112, 71.7366 / 112),
    (41.5493 / 112, 92.3655 / 112),
    (70.7299 / 112, 92.2041 / 112),
)
"""Positions of the five points of a detection in the chip, in units of its side."""


class SFaceNetwork(nn.Module):
    """Computes embeddings of aligned chips; compare them by cosine."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.PReLU(32)]
        for inputs, outputs, stride in zip((32, *widths[:-1]), widths, strides, strict=True):
            layers += [
                nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs),
                nn.PReLU(inputs),
                nn.Conv2d(inputs, outputs, 1),
                nn.PReLU(outputs),
            ]
        self.layers = nn.Sequential(*layers)
        self.embedding = nn.Linear(1024 * 7 * 7, 128)

    def forward(self, chips: Float[Tensor, "batch 3 112 112"]) -> Float[Tensor, "batch 128"]:
        """Return embeddings of sRGB chips with values 0..1."""
        x = (chips * 255.0 - 127.5) / 128.0
        return self.embedding(self.layers(x).flatten(1))


def load_sface(device: str | torch.device = "cpu") -> SFaceNetwork:
    """Load the network from the cache.

    Raises:
        FileNotFoundError: the weights are missing; the message names the command that builds them.
    """
    from lifemask.perception.weights import load_cached_network

    return load_cached_network(SFaceNetwork(), "sface", device)
