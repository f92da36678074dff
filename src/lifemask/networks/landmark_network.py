"""A network that predicts dense points, each with its uncertainty and its visibility.

A first estimate comes from the whole image. Then each point looks at the features around its own
place and corrects itself, twice. It starts from FaceMesh-V2's convolutions
(`lifemask.perception.face_mesh`), without their last stage.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.networks.face_mesh_backbone import CHUNK
from lifemask.perception.face_mesh import FaceMeshBackbone as SharedStages
from lifemask.perception.face_mesh import FaceMeshHead, FaceMeshNetwork
from lifemask.perception.weights import load_network

INPUT_SIZE = 192
"""Pixels on a side of the images."""

BRANCH_STAGES = 3
"""Stages of each of FaceMesh's two branches; the last one is left out. The last map is 3 x 3."""

FINE_STAGES = 2
"""Stages before the fine map, which has a quarter of the image's size."""

REFINEMENTS = 2
"""How often each point corrects itself."""

REACH = 1.0
"""Distance between a point and its four samples around it, in cells of the fine map."""

LARGEST_STEP = 0.05
"""Largest correction of a point along each axis in one refinement, in units of the image's side."""

FIRST_SIGMA = 0.08
"""Standard deviation that an untrained network predicts, in units of the image's side."""

LOG_SIGMA_RANGE = (-7.0, 0.0)
"""Range of the natural logarithm of predicted standard deviations, in the same unit."""


class LandmarkOutput(NamedTuple):
    """Points in units of the image's side, from its top left corner."""

    first: Float[Tensor, "batch K 2"]
    """The first estimate, from the whole image."""
    points: Float[Tensor, "batch K 2"]
    """The corrected points."""
    log_sigma: Float[Tensor, "batch K"]
    """Logarithm of the standard deviation along each axis."""
    visible_logit: Float[Tensor, "batch K"]
    """Log-odds that the point is visible."""
    summary: Float[Tensor, "batch hidden"]
    """Features of the whole face, for other outputs."""


class LandmarkNetwork(nn.Module):
    """Predicts K points on sRGB images of 192 x 192 pixels with values 0 to 1."""

    layout: Float[Tensor, "K 2"]
    """Points of an untrained prediction."""

    def __init__(
        self,
        layout: Float[Tensor, "K 2"],
        *,
        hidden: int = 384,
        channels: int = 24,
        local: int = 96,
        frozen_stages: int = 0,
    ) -> None:
        """Start from random weights; `start_from_face_mesh` replaces those of the convolutions.

        Args:
            layout: points of an untrained prediction, in units of the image's side.
            hidden: features of the whole face.
            channels: features at each place of the fine map.
            local: hidden features of each point.
            frozen_stages: first stages, with the stem, that keep their weights, 0 to 2.
        """
        super().__init__()
        backbone = SharedStages()
        self.stem, self.activation, self.stages = (
            backbone.stem, backbone.activation, backbone.stages,
        )  # fmt: skip
        self.frontal = FaceMeshHead().stages[:BRANCH_STAGES]
        self.profile = FaceMeshHead().stages[:BRANCH_STAGES]
        self.frozen_stages = frozen_stages
        if frozen_stages:
            for part in (self.stem, self.activation, *list(self.stages)[:frozen_stages]):
                part.requires_grad_(False)
        features = 2 * 128 * 3 * 3
        self.level = nn.LayerNorm(features)
        self.summary = nn.Sequential(nn.Linear(features, hidden), nn.PReLU(hidden))
        self.first = nn.Linear(hidden, 2 * len(layout))
        self.fine, self.coarse = nn.Conv2d(32, channels, 1), nn.Conv2d(64, channels, 1)
        # What a point sees, which point it is, and what the whole face looks like.
        self.around = nn.Linear(5 * channels, local)
        self.which = nn.Parameter(torch.randn(len(layout), local) * 0.1)
        self.context = nn.Linear(hidden, local)
        self.correction = nn.Linear(local, 4)
        for layer in (self.first, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("layout", layout.clone())

    def start_from_face_mesh(self) -> None:
        """Copy the convolutions of the landmark network that ships with the package."""
        known = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
        pairs = (
            (self.stem, known.trunk.stem),
            (self.activation, known.trunk.activation),
            (self.stages, known.trunk.stages),
            (self.frontal, known.frontal.stages[:BRANCH_STAGES]),
            (self.profile, known.profile.stages[:BRANCH_STAGES]),
        )
        for own, given in pairs:
            own.load_state_dict(given.state_dict())

    def forward(self, images: Float[Tensor, "batch 3 192 192"]) -> LandmarkOutput:
        """Return the points of framed faces."""
        fine, coarse, summary = self._features(images)
        first = self.layout + self.first(summary).unflatten(-1, (-1, 2))
        map_ = self.fine(fine) + F.interpolate(
            self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        told = self.which + self.context(summary).unsqueeze(1)
        points, rest = first, first
        for _ in range(REFINEMENTS):
            # A sampled place has no gradient: only what is read there tells where to go.
            seen = _sampled(map_, points.detach())
            rest = self.correction(F.relu(self.around(seen) + told))
            points = points + torch.tanh(rest[..., :2]) * LARGEST_STEP
        first_log = torch.log(torch.tensor(FIRST_SIGMA)).to(rest)
        log_sigma = (rest[..., 2] + first_log).clamp(*LOG_SIGMA_RANGE)
        return LandmarkOutput(first, points, log_sigma, rest[..., 3], summary)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps after the second and the third stage, and the summary."""
        if self.frozen_stages and images.device.type == "cpu":
            fine = torch.cat([self._fine(part) for part in images.split(CHUNK)])
        else:
            fine = self._fine(images)
        coarse = fine
        for blocks in list(self.stages)[FINE_STAGES:]:
            coarse = blocks(coarse)
        last = torch.cat([self.frontal(coarse), self.profile(coarse)], 1)
        return fine, coarse, self.summary(self.level(last.flatten(1)))

    def _fine(self, images: Tensor) -> Tensor:
        """Return the map after the first stages."""
        stages = list(self.stages)[:FINE_STAGES]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_stages):
            x = images.contiguous(memory_format=torch.channels_last)
            # TensorFlow's SAME padding of a stride-two convolution is on the far side only.
            x = self.activation(self.stem(F.pad(x, (0, 1, 0, 1))))
            for blocks in stages[: self.frozen_stages]:
                x = blocks(x)
        for blocks in stages[self.frozen_stages :]:
            x = blocks(x)
        return x


def _sampled(
    features: Float[Tensor, "batch C h w"], points: Float[Tensor, "batch K 2"]
) -> Float[Tensor, "batch K F"]:
    """Return the features at points and at four places around each."""
    cell = 2 * REACH / features.shape[-1]
    around = points.new_tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * cell
    grid = (points * 2 - 1).unsqueeze(2) + around
    found = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
    return found.permute(0, 2, 3, 1).flatten(2)
