"""Encoders of framed photos: a trunk on frozen convolutions, or a network that learns all layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import PhotoFeatures
from lifemask.networks.face_trunk import TrunkStages
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.residual_network import ResidualNetwork

WHOLE = 256
"""Features of the whole face that the trunk gives."""


class MapsEncoder(nn.Module):
    """A trunk on the maps of frozen convolutions; their last features stay beside its own."""

    def __init__(self, maps: FrozenMaps) -> None:
        """Start from random weights.

        Args:
            maps: the convolutions; only their sizes are used.
        """
        super().__init__()
        self.features = maps.features + WHOLE
        self.level = nn.LayerNorm(maps.features)
        self.trunk = TrunkStages(coarse_size=maps.input_size // 8, whole=WHOLE)

    def forward(self, seen: PhotoFeatures) -> Float[Tensor, "batch n"]:
        """Return the features of images: the last ones, then those of the trunk."""
        whole = self.trunk.maps(seen.fine, seen.coarse).whole
        return torch.cat([self.level(seen.last.float()), whole.float()], -1)


class TrunkEncoder(MapsEncoder):
    """The same with the frozen convolutions."""

    def __init__(self, maps: FrozenMaps) -> None:
        """Start from random weights.

        Args:
            maps: the convolutions.
        """
        super().__init__(maps)
        self.input_size = maps.input_size
        self.maps = maps

    def look(self, images: Float[Tensor, "batch 3 s s"]) -> PhotoFeatures:
        """Return what the frozen convolutions see in sRGB images."""
        return seen_by(self.maps, images)


def seen_by(maps: FrozenMaps, images: Float[Tensor, "batch 3 s s"]) -> PhotoFeatures:
    """Return what frozen convolutions see in sRGB images."""
    fine, coarse, last = maps(images)
    return PhotoFeatures(fine, coarse, last.flatten(1))


class ResidualEncoder(nn.Module):
    """A ResNet-50 from random weights that may read another map as a fourth channel."""

    def __init__(
        self, *, input_size: int, width: int = 64, has_map: bool = False, last_stride: int = 2
    ) -> None:
        """Start from random weights.

        Args:
            input_size: pixels on a side of the images, and of the other map.
            width: channels inside the first blocks; 64 is ResNet-50.
            has_map: whether there is another map.
            last_stride: see `ResidualNetwork`.
        """
        super().__init__()
        self.input_size = self.map_size = input_size
        channels = 4 if has_map else 3
        self.network = ResidualNetwork(
            input_channels=channels, width=width, last_stride=last_stride
        )
        self.features = self.network.features

    def look(self, images: Float[Tensor, "batch 3 s s"]) -> Float[Tensor, "batch 3 s s"]:
        """Return the images from -1 to 1: no layer is frozen."""
        return images * 2 - 1

    def see(self, seen: Float[Tensor, "batch 3 s s"]) -> Float[Tensor, "batch 3 s s"]:
        """Return the images: all layers read the other map too."""
        return seen

    def forward(
        self, seen: Float[Tensor, "batch 3 s s"], drawn: Float[Tensor, "batch 1 s s"] | None = None
    ) -> Float[Tensor, "batch n"]:
        """Return the features of images; `drawn` is the other map if there is one."""
        return self.network(seen if drawn is None else torch.cat([seen, drawn], 1))
