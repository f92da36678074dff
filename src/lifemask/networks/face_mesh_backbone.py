"""FaceMesh-V2's convolutions as a trainable backbone: images in, a small map of features out.

The network was trained to find face points on millions of photos, so its features describe faces
well; its weights ship with the package (Apache-2.0). It is convolutional up to its heads and takes
images of any size. Its last stages exist twice, for frontal faces and for profiles; the features of
both branches are concatenated.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.perception.face_mesh import FaceMeshBackbone as SharedStages
from lifemask.perception.face_mesh import FaceMeshHead, FaceMeshNetwork
from lifemask.perception.weights import load_network

STAGES = 7
"""Stages after the stem; each but the first halves the resolution."""

CHANNELS = 256
"""Features at each position of the last map, half of them from each branch."""

CHUNK = 8
"""Images that pass the frozen stages together on a CPU. More do not fit into its caches, which
doubles the time."""


class BackboneMaps(NamedTuple):
    """Features of images at three resolutions; for 256 pixels they have 64, 32 and 2 cells a side."""

    fine: Float[Tensor, "batch 32 f f"]
    """After the second stage."""
    coarse: Float[Tensor, "batch 64 c c"]
    """After the third stage."""
    last: Float[Tensor, "batch 256 s s"]
    """After both branches."""


class FaceMeshBackbone(nn.Module):
    """The stem, three stages, and two branches of four stages: FaceMesh-V2 without its points.

    It takes its channels as they are. FaceMesh's weights were made for three channels of sRGB in
    [0, 1]; `lifemask.networks.inputs` prepares them.
    """

    def __init__(
        self, *, input_channels: int = 3, input_size: int = 256, frozen_stages: int = 0
    ) -> None:
        """Start from random weights; `from_pretrained` starts from FaceMesh's.

        Args:
            input_channels: channels of the images, 1 or more.
            input_size: pixels on a side of the images; at least 128. The weights were made for 256.
            frozen_stages: how many of the first stages, with the stem, keep their weights in
                training; 0 trains all.

        Raises:
            ValueError: an impossible size, number of channels or number of stages.
        """
        super().__init__()
        if input_size < 128 or not 0 <= frozen_stages <= STAGES or input_channels < 1:
            raise ValueError(
                f"Got input_size={input_size}, input_channels={input_channels} and "
                f"frozen_stages={frozen_stages}; allowed are 128 pixels and more, 1 channel and "
                f"more, and 0 to {STAGES} stages."
            )
        if frozen_stages and input_channels != 3:
            raise ValueError(
                f"Got input_channels={input_channels} with frozen_stages={frozen_stages}: a frozen "
                "stem cannot learn to read other channels than FaceMesh's three. Set "
                "frozen_stages=0."
            )
        self.input_channels = input_channels
        self.input_size = input_size
        self.frozen_stages = frozen_stages
        backbone = SharedStages()
        self.stem, self.activation, self.stages = (
            backbone.stem, backbone.activation, backbone.stages,
        )  # fmt: skip
        if input_channels != 3:
            self.stem = _stem_of(self.stem, input_channels)
        self.frontal, self.profile = FaceMeshHead().stages, FaceMeshHead().stages
        self._freeze()

    @classmethod
    def from_pretrained(
        cls, *, input_channels: int = 3, input_size: int = 256, frozen_stages: int = 0
    ) -> "FaceMeshBackbone":
        """Start from a copy of the landmark network's weights.

        Channels beyond the third start with weights of zero: at first they change nothing.

        Raises:
            ValueError: fewer than three channels, or what the constructor refuses.
        """
        if input_channels < 3:
            raise ValueError(
                f"Got input_channels={input_channels}; FaceMesh's weights read three channels of "
                "sRGB, so allowed are 3 and more."
            )
        known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
        backbone = cls(
            input_channels=input_channels, input_size=input_size, frozen_stages=frozen_stages
        )
        with torch.no_grad():
            backbone.stem.weight.zero_()
            backbone.stem.weight[:, :3] = known.trunk.stem.weight
            if backbone.stem.bias is not None and known.trunk.stem.bias is not None:
                backbone.stem.bias.copy_(known.trunk.stem.bias)
        for own, given in (
            (backbone.activation, known.trunk.activation),
            (backbone.stages, known.trunk.stages),
            (backbone.frontal, known.frontal.stages),
            (backbone.profile, known.profile.stages),
        ):
            own.load_state_dict(given.state_dict())
        return backbone

    @property
    def output_size(self) -> int:
        """Side of the last map."""
        side = (self.input_size - 2) // 2 + 1
        for _ in range(STAGES - 1):
            side //= 2
        return side

    @property
    def features(self) -> int:
        """How many numbers the last map holds for each image."""
        return CHANNELS * self.output_size**2

    def forward(self, images: Float[Tensor, "batch C S S"]) -> Float[Tensor, "batch 256 s s"]:
        """Return the features of images that are `input_size` wide."""
        return self.maps(images)[-1]

    def maps(self, images: Float[Tensor, "batch C S S"]) -> BackboneMaps:
        """Return the features of images that are `input_size` wide, at three resolutions."""
        # An export serves batches of any length.
        exported = torch.onnx.is_in_onnx_export()
        frozen = self.frozen_stages >= len(self.stages)
        chunked = frozen and images.device.type == "cpu" and not exported
        parts = [self._shared(part) for part in (images.split(CHUNK) if chunked else [images])]
        fine, coarse = (
            torch.cat(maps) if chunked else maps[0] for maps in zip(*parts, strict=True)
        )
        branches = [self._branch(branch, coarse) for branch in (self.frontal, self.profile)]
        return BackboneMaps(fine, coarse, torch.cat(branches, 1))

    def _shared(self, images: Float[Tensor, "batch C S S"]) -> tuple[Tensor, Tensor]:
        """Return the outputs of the second and the third stage."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_stages):
            x = images.contiguous(memory_format=torch.channels_last)
            # TensorFlow's SAME padding of a stride-two convolution is on the far side only.
            x = self.activation(self.stem(F.pad(x, (0, 1, 0, 1))))
        maps: list[Tensor] = []
        for stage, blocks in enumerate(self.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and stage >= self.frozen_stages):
                x = blocks(x)
            maps.append(x)
        return maps[1], maps[2]

    def _branch(self, branch: nn.Sequential, x: Tensor) -> Tensor:
        for stage, blocks in enumerate(branch, start=len(self.stages)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and stage >= self.frozen_stages):
                x = blocks(x)
        return x

    def _freeze(self) -> None:
        if self.frozen_stages:
            branches = zip(self.frontal, self.profile, strict=True)
            stages = [[stage] for stage in self.stages] + [list(pair) for pair in branches]
            kept = [part for stage in stages[: self.frozen_stages] for part in stage]
            for part in (self.stem, self.activation, *kept):
                part.requires_grad_(False)


def _stem_of(stem: nn.Conv2d, input_channels: int) -> nn.Conv2d:
    """Return a new stem like another one that reads another number of channels."""
    kernel, stride = stem.kernel_size, stem.stride
    return nn.Conv2d(
        input_channels,
        stem.out_channels,
        (kernel[0], kernel[1]),
        (stride[0], stride[-1]),
        bias=stem.bias is not None,
    )
