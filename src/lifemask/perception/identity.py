"""Identity: dlib's 128-dimensional face embedding, differentiable for identity losses.

Network of dlib's `face_recognition_resnet_model_v1` (King, 2017; public domain): a ResNet of 29
convolutions on an aligned chip of 150 x 150 pixels. Embeddings of two photos of one person have a
Euclidean distance below about 0.6.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CHIP_SIZE = 150
"""Pixels along each side of the aligned chip."""

CHIP_POINTS: tuple[int, ...] = (263, 362, 33, 133, 2)
"""Mesh points used as dlib's five: outer and inner corners of the eyes, nose base."""

# dlib's positions of its five points in a chip without padding (get_face_chip_details), with the
# quarter of padding that the network was trained with.
_TEMPLATE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
CHIP_TEMPLATE: tuple[tuple[float, float], ...] = tuple(
    (float(x), float(y)) for x, y in (_TEMPLATE + 0.25) / 1.5
)
"""Positions of `CHIP_POINTS` in the chip, in units of its side."""


class IdentityNetwork(nn.Module):
    """Computes embeddings of aligned chips. Differentiable; runs on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        widths = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)
        strides = (1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1, 2)
        inputs = (32, *widths[:-1])
        self.blocks = nn.Sequential(
            *(_Residual(*shape) for shape in zip(inputs, widths, strides, strict=True))
        )
        self.embedding = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]), persistent=False)
        self.mean: Tensor

    def forward(self, chips: Float[Tensor, "batch 3 150 150"]) -> Float[Tensor, "batch 128"]:
        """Return embeddings of sRGB chips with values 0..1."""
        x = (chips * 255.0 - self.mean[:, None, None]) / 256.0
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        return self.embedding(self.blocks(x).mean((-1, -2)))


def chip_region(points: Float[Tensor, "*batch 478 2"]) -> Float[Tensor, "*batch 2 3"]:
    """Return the region of the aligned chip from mesh points in image pixels. Differentiable."""
    return template_region(points[..., list(CHIP_POINTS), :], CHIP_TEMPLATE)


def template_region(
    points: Float[Tensor, "*batch N 2"], template: tuple[tuple[float, float], ...]
) -> Float[Tensor, "*batch 2 3"]:
    """Return the square region in which points fit a template best (least squares).

    Args:
        points: image pixels.
        template: wanted positions in the region, in units of its side.
    """
    # A similarity without reflection is a complex factor and an offset: points = factor * t + o.
    goal = torch.view_as_complex(points.new_tensor(template))
    found = torch.view_as_complex(points.contiguous())
    centred = goal - goal.mean()
    factor = (found * centred.conj()).sum(-1) / centred.abs().square().sum()
    offset = found.mean(-1) - factor * goal.mean()
    cosine, sine = factor.real, factor.imag
    rows = [cosine, -sine, offset.real, sine, cosine, offset.imag]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


class _Residual(nn.Module):
    """Two 3x3 convolutions (batch norm folded in); the skip is pooled and padded with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1 if stride == 1 else 0)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        skip = F.avg_pool2d(x, 2) if self.stride == 2 else x
        # dlib fills the smaller of two tensors with zeros before it adds them; sizes are plain
        # integers so that an exported network keeps them.
        channels, rows, columns = (max(int(y.shape[i]), int(skip.shape[i])) for i in (1, 2, 3))
        return F.relu(_grown(y, channels, rows, columns) + _grown(skip, channels, rows, columns))


def _grown(x: Tensor, channels: int, rows: int, columns: int) -> Tensor:
    _, has_channels, has_rows, has_columns = (int(n) for n in x.shape)
    missing = [0, columns - has_columns, 0, rows - has_rows, 0, channels - has_channels]
    return F.pad(x, missing) if any(missing) else x
