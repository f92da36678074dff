"""Dense face points in regions of a photo, and regions around points."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from lifemask.geometry.alignment import align_points
from lifemask.morphable.assets import load_asset
from lifemask.perception.face_mesh import CROP_SIZE, FaceMeshNetwork, FaceMeshOutput
from lifemask.perception.onnx_runtime import Network, OnnxNetwork, Runtime
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

REGION_SCALE = 1.4
"""Side of the region around known points, in units of their upright extent."""

LIGHT_CORRECTION = "face_mesh_light"
"""Asset with the correction of the frontal network head's points for light from one side."""

LIGHT_FULL_UNTIL, LIGHT_NONE_FROM = math.radians(10.0), math.radians(25.0)
"""Yaw range over which that correction fades out; it was learned on frontal faces."""

LIGHT_SHIFT_LIMIT = 0.03
"""Root mean square of a correction, in crop units, at which half of it is applied. Usual values are
a fifth of that; large ones occur on crops unlike the training data."""

PROFILE_FROM, PROFILE_TO = math.radians(40.0), math.radians(60.0)
"""Yaw range over which points change from the network's frontal head to its profile head."""


@dataclass(frozen=True)
class DensePoints:
    """Dense points in one or more regions, in photo pixels."""

    points: Float[Tensor, "batch 478 3"]
    """x, y in photo pixels; z in pixels, smaller is nearer."""
    presence_logit: Float[Tensor, " batch"]
    """Presence score of the frontal network head; below about 5 that head is unreliable."""
    profile_weight: Float[Tensor, " batch"]
    """Share of the profile head in the points, 0 to 1."""


@dataclass(frozen=True)
class FaceMeshTopology:
    """Constants of the 478 points: mean shape, triangles and mirror images."""

    canonical_vertices: Float[Tensor, "468 3"]
    """Mean shape, metres; x right, y down, z forward as in a camera in front of an upright head."""
    canonical_uv: Float[Tensor, "468 2"]
    """Texture coordinates in 0..1."""
    triangles: Int[Tensor, "T 3"]
    """Indices into the first 468 points; the irises belong to no triangle."""
    mirror: Int[Tensor, "478"]
    """Index of each point's mirror image."""

    @classmethod
    def from_pretrained(cls, device: str | torch.device = "cpu") -> "FaceMeshTopology":
        """Load the constants that ship with the package."""
        stored = load_asset("perception/face_mesh_topology")
        # Stored with y up and z out of the face.
        to_camera = torch.tensor([1.0, -1.0, -1.0])
        return cls(
            (stored["canonical_vertices"] * to_camera).to(device),
            stored["canonical_uv"].to(device),
            stored["triangles"].long().to(device),
            stored["mirror"].long().to(device),
        )

    def head_rotation(self, points: Float[Tensor, "*batch 478 3"]) -> Float[Tensor, "*batch 3 3"]:
        """Return the rotation that best aligns the mean shape with points, in camera axes."""
        shape = self.canonical_vertices.expand(*points.shape[:-2], -1, -1)
        return align_points(shape, points[..., :468, :], with_scale=True)[1]


class FaceMesh:
    """Finds the 478 points in regions of a photo."""

    def __init__(self, network: Network, topology: FaceMeshTopology) -> None:
        self.network = network
        self.topology = topology

    @classmethod
    def from_pretrained(
        cls, device: str | torch.device = "cpu", *, runtime: Runtime = "torch"
    ) -> "FaceMesh":
        """Load the weights that ship with the package."""
        names = ("face_mesh", "face_mesh_profile")
        face_mesh = load_network(FaceMeshNetwork(), *names, device=device)
        face_mesh.frontal.set_light_correction(**load_asset(f"perception/{LIGHT_CORRECTION}"))
        network: Network = face_mesh
        if runtime == "onnxruntime":
            assets = [f"perception/{name}" for name in (*names, LIGHT_CORRECTION)]
            network = OnnxNetwork(network, assets, (2, 3, CROP_SIZE, CROP_SIZE))
        return cls(network, FaceMeshTopology.from_pretrained(device))

    @torch.no_grad()
    def find(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        regions: Float[Tensor, "N 2 3"],
        *,
        border: Border = "border",
    ) -> DensePoints:
        """Return the points in every region; mirrored regions have the usual order of points too.

        Args:
            pixels: sRGB photo.
            regions: affine maps from crop units to photo pixels; see `regions`.
            border: values outside the photo.
        """
        crops = crop_photo(pixels, regions, CROP_SIZE, border=border)
        output = FaceMeshOutput(*self.network(crops.contiguous(memory_format=torch.channels_last)))
        profile = self._in_photo(output.profile_points, regions)
        yaw = head_angles(self.topology.head_rotation(profile)).yaw_radians.abs()
        shift = output.light_shift
        size = shift[..., :2].square().sum(-1).mean(-1).sqrt()
        trust = ((LIGHT_NONE_FROM - yaw) / (LIGHT_NONE_FROM - LIGHT_FULL_UNTIL)).clamp(0.0, 1.0)
        trust = trust / (1.0 + (size / LIGHT_SHIFT_LIMIT) ** 4)
        frontal = self._in_photo(output.points + trust[:, None, None] * shift, regions)
        weight = ((yaw - PROFILE_FROM) / (PROFILE_TO - PROFILE_FROM)).clamp(0.0, 1.0)
        points = torch.lerp(frontal, profile, weight[:, None, None])
        return DensePoints(points, output.presence_logit, weight)

    def region_around(
        self, points: Float[Tensor, "478 3"], *, scale: float = REGION_SCALE
    ) -> Float[Tensor, "2 3"]:
        """Return the upright square around points, `scale` times as long as their larger extent."""
        angle = head_angles(self.topology.head_rotation(points)).roll_radians
        upright = turn(points[:, :2], -angle)
        low, high = upright.amin(0), upright.amax(0)
        centre = turn(((low + high) / 2).unsqueeze(0), angle).squeeze(0)
        return square_regions(centre, (high - low).amax() * scale, angle)

    def _in_photo(
        self, points: Float[Tensor, "N 478 3"], regions: Float[Tensor, "N 2 3"]
    ) -> Float[Tensor, "N 478 3"]:
        is_mirrored = torch.linalg.det(regions[:, :, :2]) < 0.0
        points = torch.where(is_mirrored[:, None, None], points[:, self.topology.mirror], points)
        depth = points[..., 2:] * region_side(regions)[:, None, None]
        return torch.cat([to_photo(regions, points[..., :2]), depth], dim=-1)


class HeadAngles(NamedTuple):
    """Direction of a head in the image."""

    yaw_radians: Float[Tensor, "*batch"]
    """Positive if the face points to the image's right."""
    roll_radians: Float[Tensor, "*batch"]
    """Positive if the head is rotated clockwise in the image."""


def head_angles(rotation: Float[Tensor, "*batch 3 3"]) -> HeadAngles:
    """Return yaw and roll of a head's rotation in camera axes (x right, y down, z forward)."""
    forward, up = -rotation[..., :, 2], -rotation[..., :, 1]
    return HeadAngles(
        torch.atan2(forward[..., 0], -forward[..., 2]), torch.atan2(up[..., 0], -up[..., 1])
    )


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
    """Return even, reproducible variants of a region by a few percent; every second is mirrored."""
    # Additive recurrence with the generalised golden ratio: low discrepancy in four dimensions.
    golden = 1.1673039782614187
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    ratios = torch.tensor([golden**-k for k in range(1, 5)], dtype=torch.float64)
    offsets = (2.0 * ((0.5 + steps[:, None] * ratios) % 1.0) - 1.0).to(region)
    # Mirrored pairs have the same jitter, so that the effect of flipping averages out.
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
