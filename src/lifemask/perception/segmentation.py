"""Segments an aligned crop into hair, skin, clothes and background (selfie multiclass network).

A MobileNetV2 stem, two MobileViT-V2 stages (separable self-attention, Mehta and Rastegari, 2022)
and a feature-pyramid decoder, as in MediaPipe's `selfie_multiclass_256x256`.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SEGMENTATION_CLASSES: tuple[str, ...] = (
    "background",
    "hair",
    "body_skin",
    "face_skin",
    "clothes",
    "other",
)
"""Order of the channels; beards count as face skin, spectacle frames as other."""

CROP_SIZE = 256
"""Pixels along each side of the crops that the network was trained on."""


class SegmentationNetwork(nn.Module):
    """Predicts class probabilities from image crops. Differentiable; runs on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)
        self.lateral_2 = nn.Conv2d(16, 64, 1)
        self.stage_4 = nn.Sequential(
            _InvertedResidual(16, 96, 64),
            _InvertedResidual(64, 384, 128, stride=2),
            _InvertedResidual(128, 768, 128),
        )
        self.lateral_4 = nn.Conv2d(128, 64, 1)
        self.stage_8 = nn.Sequential(
            _InvertedResidual(128, 768, 256, stride=2), _MobileViT(256, 128, blocks=2)
        )
        self.lateral_8 = nn.Conv2d(256, 64, 1)
        self.stage_16 = nn.Sequential(
            _InvertedResidual(256, 1536, 384, stride=2), _MobileViT(384, 192, blocks=4)
        )
        self.lateral_16 = nn.Conv2d(384, 64, 1)
        self.smooth_16 = _separable(64, 64)
        self.smooth_8 = _separable(64, 64)
        self.smooth_4 = _separable(64, 64)
        self.smooth_2 = _separable(64, 64)
        head: list[nn.Module] = []
        for inputs in (64, 32, 32, 32, 32):
            depthwise, pointwise = _separable(inputs, 32)
            head += [depthwise, nn.ReLU(), pointwise, nn.ReLU()]
        self.head = nn.Sequential(*head)
        self.upsample = nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.logits = nn.Conv2d(32, len(SEGMENTATION_CLASSES), 1)

    def forward(self, crops: Float[Tensor, "batch 3 256 256"]) -> Float[Tensor, "batch 6 256 256"]:
        """Return probabilities, summing to one, of `SEGMENTATION_CLASSES` on sRGB crops in 0..1."""
        # The network expects -1..1, and SAME padding, which is at the right and bottom if even.
        x2 = F.relu(self.stem(F.pad(crops * 2.0 - 1.0, (0, 1, 0, 1))))
        x4 = self.stage_4(x2)
        x8 = self.stage_8(x4)
        p16 = self.lateral_16(self.stage_16(x8))
        p8 = F.interpolate(p16, scale_factor=2.0) + self.lateral_8(x8)
        p4 = F.interpolate(p8, scale_factor=2.0) + self.lateral_4(x4)
        p2 = F.interpolate(p4, scale_factor=2.0) + self.lateral_2(x2)
        merged = self.smooth_2(p2)
        for smooth, level in ((self.smooth_4, p4), (self.smooth_8, p8), (self.smooth_16, p16)):
            size = merged.shape[-2:]
            merged = merged + F.interpolate(smooth(level), size=size, mode="bilinear")
        return self.logits(self.upsample(self.head(merged))).softmax(1)


class _InvertedResidual(nn.Module):
    """MobileNetV2 block: expand, depthwise 3x3, project; with a skip if the shape stays."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.padding = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(F.relu(self.expand(x)), self.padding)
        y = self.project(F.relu(self.depthwise(y)))
        return x + y if self.residual else y


class _MobileViT(nn.Module):
    """Local convolutions, then attention between 4x4 patches."""

    def __init__(self, channels: int, width: int, *, blocks: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, width, 3, padding=1)
        self.enter = nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(_SeparableAttention(width) for _ in range(blocks))
        self.leave = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.enter(F.relu(self.local(x))))
        batch, width, height, columns = x.shape
        # batch, channels, position in the patch (16), patch
        patches = x.reshape(batch, width, height // 4, 4, columns // 4, 4)
        patches = patches.permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(2, 3)
        for block in self.blocks:
            patches = block(patches)
        patches = patches.reshape(batch, width, 4, 4, height // 4, columns // 4)
        return self.leave(patches.permute(0, 1, 4, 2, 5, 3).reshape(x.shape))


class _SeparableAttention(nn.Module):
    """Attention with one global context per position in the patch, and a linear layer.

    The converter has folded the batch norm in front of the layers and the (linear) two-layer
    feed-forward path of the source into these convolutions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feed_forward = nn.Conv2d(width, width, 1)
        self.query = nn.Conv2d(width, 1, 1)
        self.key = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.query(x).softmax(-1)
        context = (self.key(x) * weights).sum(-1, keepdim=True)
        return x + self.out(F.relu(self.value(x)) * context) + self.feed_forward(x)


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1))
