"""FaceMesh-V2: a residual network that predicts 478 three-dimensional points on a face crop.

Architecture as in MediaPipe's `face_landmarks_detector`: a stem, seven stages of bottleneck blocks
that halve the resolution from 128 to 2, and linear heads for points and presence. That network
fails on profiles; therefore a second copy of the last four stages was trained on turned faces
(`tools/train_profile_points.py`). Both predict points. The light of the photo shifts those of the
first; a linear correction of low rank (`tools/train_light_points.py`) predicts the shift.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CROP_SIZE = 256
"""Pixels along each side of the crops that the network was trained on."""

POINT_COUNT = 478
"""468 points of the mesh and five on each iris."""


class _PReLU(nn.PReLU):
    """A PReLU that ONNX Runtime computes fast: its own kernel takes longer than the convolutions."""

    def forward(self, input: Float[Tensor, "batch C h w"]) -> Float[Tensor, "batch C h w"]:
        if not torch.onnx.is_in_onnx_export():
            return super().forward(input)
        slope = self.weight[:, None, None]
        return F.relu(input) * (1 - slope) + slope * input


class FaceMeshOutput(NamedTuple):
    """Points in crop units from both network heads, and the confidence that this is a face."""

    points: Float[Tensor, "batch 478 3"]
    """Points of the original head: x, y in [0, 1] from the crop's top left; z in the same unit,
    smaller is nearer."""
    presence_logit: Float[Tensor, " batch"]
    """Below about 5 the original head's points are unreliable; negative on most profiles."""
    profile_points: Float[Tensor, "batch 478 3"]
    """The same points from the head that was trained on faces turned by up to 100 degrees."""
    light_shift: Float[Tensor, "batch 478 3"]
    """Correction to add to the original head's points for the photo's light; zero if none is
    set."""


class FaceMeshNetwork(nn.Module):
    """Predicts points from image crops. Differentiable; runs on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FaceMeshBackbone()  # The name is part of the stored weights' keys.
        self.frontal = FaceMeshHead()
        self.presence = nn.Conv2d(128, 1, 2)
        self.profile = FaceMeshHead()

    def forward(self, crops: Float[Tensor, "batch 3 256 256"]) -> FaceMeshOutput:
        """Return the points on sRGB crops with values 0..1."""
        features = self.trunk(crops)
        last = self.frontal.stages(features)
        return FaceMeshOutput(
            self.frontal.read(last),
            self.presence(last).reshape(-1),
            self.profile(features),
            self.frontal.light_shift(last),
        )


class FaceMeshBackbone(nn.Module):
    """The stem and the first three stages, which both heads share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)
        self.activation = _PReLU(16)
        self.stages = nn.Sequential(_stage(16, 16), _stage(16, 32), _stage(32, 64))

    def forward(self, crops: Float[Tensor, "batch 3 256 256"]) -> Float[Tensor, "batch 64 32 32"]:
        """Return features of sRGB crops with values 0..1."""
        # TensorFlow's SAME padding of a stride-two convolution is only at the right and bottom.
        return self.stages(self.activation(self.stem(F.pad(crops, (0, 1, 0, 1)))))


class FaceMeshHead(nn.Module):
    """The last four stages and the linear layer that predicts the points."""

    light_reduce: Tensor
    light_expand: Tensor
    light_bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            _stage(64, 128), _stage(128, 128), _stage(128, 128), _stage(128, 128)
        )
        self.points = nn.Conv2d(128, 3 * POINT_COUNT, 2)
        # Stored in a separate asset, not with the weights.
        self.register_buffer("light_reduce", torch.zeros(1, 512), persistent=False)
        self.register_buffer("light_expand", torch.zeros(3 * POINT_COUNT, 1), persistent=False)
        self.register_buffer("light_bias", torch.zeros(3 * POINT_COUNT), persistent=False)

    def forward(self, features: Float[Tensor, "batch 64 32 32"]) -> Float[Tensor, "batch 478 3"]:
        """Return points, in crop units, from the backbone's features."""
        return self.read(self.stages(features))

    def read(self, last: Float[Tensor, "batch 128 2 2"]) -> Float[Tensor, "batch 478 3"]:
        """Return points, in crop units, from the last stage's features."""
        return self.points(last).reshape(-1, POINT_COUNT, 3) / CROP_SIZE

    def light_shift(self, last: Float[Tensor, "batch 128 2 2"]) -> Float[Tensor, "batch 478 3"]:
        """Return the correction of the points for the photo's light, in crop units."""
        shift = last.flatten(1) @ self.light_reduce.T @ self.light_expand.T + self.light_bias
        return shift.reshape(-1, POINT_COUNT, 3)

    def set_light_correction(
        self,
        reduce: Float[Tensor, "rank 512"],
        expand: Float[Tensor, "1434 rank"],
        bias: Float[Tensor, "1434"],
    ) -> None:
        """Set `light_shift` to `expand @ (reduce @ input) + bias` of the last stage's features.

        `tools/train_light_points.py` fits it.
        """
        self.light_reduce = reduce.to(self.light_bias)
        self.light_expand = expand.to(self.light_bias)
        self.light_bias = bias.to(self.light_bias)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    blocks: list[nn.Module] = [_Bottleneck(outputs) for _ in range(4)]
    # The first stage keeps the resolution of the stem; every other stage halves it.
    return nn.Sequential(*([_Downsample(inputs, outputs)] if outputs > 16 else []), *blocks)


class _Bottleneck(nn.Module):
    """Residual block: reduce, depthwise 3x3, expand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Conv2d(channels, half, 1)
        self.reduce_activation = _PReLU(half)
        self.depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.expand = nn.Conv2d(half, channels, 1)
        self.activation = _PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.reduce_activation(self.reduce(x))))
        return self.activation(x + y)


class _Downsample(nn.Module):
    """Residual block that halves the resolution; the skip is pooled and gets zero channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.reduce = nn.Conv2d(inputs, half, 2, stride=2)
        self.reduce_activation = _PReLU(half)
        self.depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.expand = nn.Conv2d(half, outputs, 1)
        self.activation = _PReLU(outputs)
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.reduce_activation(self.reduce(x))))
        skip = F.pad(F.max_pool2d(x, 2), (0, 0, 0, 0, 0, self.new_channels))
        return self.activation(skip + y)
