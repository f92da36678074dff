"""A trainable copy of FaceMesh-V2's convolutions: image crops in, a small map of features out.

The network found face points on millions of photos, so its features know faces; its weights ship
with the package (Apache-2.0). It is convolutional up to its heads and takes crops of any size. Its
last stages exist twice, for faces from ahead and for profiles; what both see is put side by side.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.io.colour import srgb_from_linear
from lifemask.perception.face_mesh import FaceMeshBackbone, FaceMeshHead, FaceMeshNetwork
from lifemask.perception.weights import load_network

STAGES = 7
"""Stages after the stem; each but the first halves the resolution."""

CHANNELS = 256
"""Features at each place of the last map, half of them from each branch."""


CHUNK = 8
"""Crops that go through the first stages at once on a CPU: more do not fit into its caches, which
takes twice the time."""


class FaceMeshFeatures(nn.Module):
    """The stem, three stages, and two branches of four stages: FaceMesh-V2 without its points."""

    def __init__(self, *, input_size: int = 256, frozen_stages: int = 0) -> None:
        """Start from random weights; `from_pretrained` starts from FaceMesh's.

        Args:
            input_size: pixels on a side to which crops are resized first; at least 128. The weights
                were made for 256.
            frozen_stages: how many of the first stages, with the stem, keep their weights in
                training; 0 trains all.

        Raises:
            ValueError: a size or number of stages that cannot be.
        """
        super().__init__()
        if input_size < 128 or not 0 <= frozen_stages <= STAGES:
            raise ValueError(
                f"Got input_size={input_size} and frozen_stages={frozen_stages}; allowed are 128 "
                f"pixels and more, and 0 to {STAGES} stages."
            )
        self.input_size = input_size
        self.frozen_stages = frozen_stages
        trunk = FaceMeshBackbone()
        self.stem, self.activation, self.stages = trunk.stem, trunk.activation, trunk.stages
        self.frontal, self.profile = FaceMeshHead().stages, FaceMeshHead().stages
        self._freeze()

    @classmethod
    def from_pretrained(
        cls, *, input_size: int = 256, frozen_stages: int = 0
    ) -> "FaceMeshFeatures":
        """Start from a copy of the landmark network's weights."""
        known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
        features = cls(input_size=input_size, frozen_stages=frozen_stages)
        for own, given in (
            (features.stem, known.trunk.stem),
            (features.activation, known.trunk.activation),
            (features.stages, known.trunk.stages),
            (features.frontal, known.frontal.stages),
            (features.profile, known.profile.stages),
        ):
            own.load_state_dict(given.state_dict())
        return features

    @property
    def output_size(self) -> int:
        """Side of the last map."""
        side = (self.input_size - 2) // 2 + 1
        for _ in range(STAGES - 1):
            side //= 2
        return side

    def forward(self, photo: Float[Tensor, "batch 3 S S"]) -> Float[Tensor, "batch 256 s s"]:
        """Return features of linear RGB crops in [0, 1]."""
        if self.frozen_stages and photo.device.type == "cpu":
            x = torch.cat([self._first(part) for part in photo.split(CHUNK)])
        else:
            x = self._first(photo)
        for blocks in list(self.stages)[self.frozen_stages :]:
            x = blocks(x)
        return torch.cat([self._branch(self.frontal, x), self._branch(self.profile, x)], 1)

    def _first(self, photo: Float[Tensor, "batch 3 S S"]) -> Tensor:
        """Return what the stem and the shared stages that keep their weights see."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_stages):
            x = srgb_from_linear(photo)
            size = (self.input_size, self.input_size)
            if x.shape[-2:] != size:
                finer = x.shape[-1] > self.input_size
                x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=finer)
            x = x.contiguous(memory_format=torch.channels_last)
            # TensorFlow's SAME padding of a stride-two convolution falls on the far side only.
            x = self.activation(self.stem(F.pad(x, (0, 1, 0, 1))))
            for blocks in list(self.stages)[: self.frozen_stages]:
                x = blocks(x)
            return x

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
