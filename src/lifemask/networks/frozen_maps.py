"""Convolutions that several systems share: they never learn, and one released file holds them."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.networks.face_mesh_backbone import BackboneMaps, FaceMeshBackbone
from lifemask.networks.frozen import Frozen


class FrozenMaps(Frozen):
    """A trained backbone whose maps other layers read; encoded banks hold its outputs."""

    def __init__(self, backbone: FaceMeshBackbone) -> None:
        """Freeze a backbone that reads three channels, in place."""
        super().__init__(backbone)
        self.input_size = backbone.input_size
        self.features = backbone.features

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "batch 3 s s"]) -> BackboneMaps:
        """Return the maps of sRGB images in [0, 1]."""
        assert isinstance(self.inner, FaceMeshBackbone)
        return self.inner.maps(images)
