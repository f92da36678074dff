"""Dense face points from a region of a photo, averaged over jittered and mirrored crops."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.morphable.assets import load_asset
from lifemask.perception.face_mesh import CROP_SIZE, FaceMeshNetwork
from lifemask.perception.regions import (
    Border,
    crop_photo,
    mirrored,
    region_side,
    square_regions,
    to_photo,
)
from lifemask.perception.weights import load_network

RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
"""Outer corners of the subject's eyes among the 478 points."""

REGION_SCALE = 1.5
"""Side of the region around known points, in units of their upright extent."""


@dataclass(frozen=True)
class DensePoints:
    """The network's answer on one or more regions, in photo pixels."""

    points: Float[Tensor, "batch 478 3"]
    """x, y in photo pixels; z in pixels, smaller is nearer."""
    presence_logit: Float[Tensor, " batch"]
    """Below about 5 the points deserve distrust."""


class FaceMesh:
    """Finds the 478 points in regions of a photo."""

    def __init__(self, network: FaceMeshNetwork, mirror: Tensor) -> None:
        self.network = network
        self.mirror = mirror

    @classmethod
    def from_pretrained(cls, device: str | torch.device = "cpu") -> "FaceMesh":
        """Load the weights that ship with the package."""
        topology = load_asset("perception/face_mesh_topology")
        network = load_network(FaceMeshNetwork(), "face_mesh", device)
        return cls(network, topology["mirror"].long())

    @torch.inference_mode()
    def find(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        regions: Float[Tensor, "N 2 3"],
        *,
        border: Border = "border",
    ) -> DensePoints:
        """Find the points in every region; mirrored regions give points in the usual order too."""
        crops = crop_photo(pixels, regions, CROP_SIZE, border=border)
        output = self.network(crops.contiguous(memory_format=torch.channels_last))
        is_mirrored = torch.linalg.det(regions[:, :, :2]) < 0.0
        points = output.points
        points = torch.where(is_mirrored[:, None, None], points[:, self.mirror], points)
        depth = points[..., 2:] * region_side(regions)[:, None, None]
        return DensePoints(
            torch.cat([to_photo(regions, points[..., :2]), depth], dim=-1), output.presence_logit
        )


def region_around(
    points: Float[Tensor, "*batch 478 3"], *, scale: float = REGION_SCALE
) -> Float[Tensor, "*batch 2 3"]:
    """Return the upright square around points, `scale` times as long as their larger extent."""
    across = points[..., LEFT_EYE_OUTER, :2] - points[..., RIGHT_EYE_OUTER, :2]
    angle = torch.atan2(across[..., 1], across[..., 0])
    upright = turn(points[..., :2], -angle)
    low, high = upright.amin(-2), upright.amax(-2)
    centre = turn(((low + high) / 2).unsqueeze(-2), angle).squeeze(-2)
    return square_regions(centre, (high - low).amax(-1) * scale, angle)


def turn(
    points: Float[Tensor, "*batch N 2"], angle_radians: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch N 2"]:
    """Rotate points about the origin, +x towards +y."""
    cosine, sine = angle_radians.cos()[..., None], angle_radians.sin()[..., None]
    x, y = points.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)


def jittered(
    region: Float[Tensor, "2 3"],
    count: int,
    *,
    shift: float = 0.03,
    scale: float = 0.06,
    angle_radians: float = 0.06,
) -> Float[Tensor, "count 2 3"]:
    """Vary a region by a few percent, evenly and the same each time; every second is mirrored."""
    # Additive recurrence with the generalised golden ratio: low discrepancy in four dimensions.
    golden = 1.1673039782614187
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    ratios = torch.tensor([golden**-k for k in range(1, 5)], dtype=torch.float64)
    offsets = (2.0 * ((0.5 + steps[:, None] * ratios) % 1.0) - 1.0).to(region)
    # Mirrored pairs share their jitter, so that what flipping changes averages out.
    offsets = offsets[torch.arange(count) // 2]
    middle = to_photo(region, region.new_tensor([[0.5, 0.5]]))
    side = region_side(region)
    angle = torch.atan2(region[1, 0], region[0, 0])
    varied = square_regions(
        middle + offsets[:, :2] * shift * side,
        side * torch.exp(offsets[:, 2] * math.log1p(scale)),
        angle + offsets[:, 3] * angle_radians,
    )
    is_odd = (torch.arange(count) % 2 == 1)[:, None, None]
    return torch.where(is_odd, mirrored(varied), varied)
