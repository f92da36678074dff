"""A trainable copy of FaceMesh-V2's convolutions: image crops in, a small map of features out.

The network found face points on millions of photos, so its features know faces; its weights ship
with the package (Apache-2.0). It is convolutional up to its heads and takes crops of any size.
"""

import contextlib

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.io.colour import srgb_from_linear
from lifemask.perception.face_mesh import FaceMeshHead, FaceMeshNetwork, FaceMeshTrunk
from lifemask.perception.weights import load_network

STAGES = 7
"""Stages after the stem; each but the first halves the resolution."""

CHANNELS = 128
"""Features at each place of the last map."""


class FaceMeshFeatures(nn.Module):
    """The stem and all seven stages of FaceMesh-V2, without its heads."""

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
        trunk, head = FaceMeshTrunk(), FaceMeshHead()
        self.stem, self.activation = trunk.stem, trunk.activation
        self.stages = nn.ModuleList([*trunk.stages, *head.stages])
        self._freeze()

    @classmethod
    def from_pretrained(
        cls, *, input_size: int = 256, frozen_stages: int = 0
    ) -> "FaceMeshFeatures":
        """Start from a copy of the weights of the landmark network's original head."""
        known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
        features = cls(input_size=input_size, frozen_stages=frozen_stages)
        features.stem.load_state_dict(known.trunk.stem.state_dict())
        features.activation.load_state_dict(known.trunk.activation.state_dict())
        pretrained = [*known.trunk.stages, *known.frontal.stages]
        for own, given in zip(features.stages, pretrained, strict=True):
            own.load_state_dict(given.state_dict())
        return features

    @property
    def output_size(self) -> int:
        """Side of the last map."""
        side = (self.input_size - 2) // 2 + 1
        for _ in range(STAGES - 1):
            side //= 2
        return side

    def forward(self, photo: Float[Tensor, "batch 3 S S"]) -> Float[Tensor, "batch 128 s s"]:
        """Return features of linear RGB crops in [0, 1]."""
        x = srgb_from_linear(photo)
        size = (self.input_size, self.input_size)
        if x.shape[-2:] != size:
            finer = x.shape[-1] > self.input_size
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=finer)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad() if self.frozen_stages else contextlib.nullcontext():
            # TensorFlow's SAME padding of a stride-two convolution falls on the far side only.
            x = self.activation(self.stem(F.pad(x, (0, 1, 0, 1))))
            for stage in self.stages[: self.frozen_stages]:
                x = stage(x)
        for stage in self.stages[self.frozen_stages :]:
            x = stage(x)
        return x

    def _freeze(self) -> None:
        if self.frozen_stages:
            for part in (self.stem, self.activation, *self.stages[: self.frozen_stages]):
                part.requires_grad_(False)
