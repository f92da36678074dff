"""CoarseNet: from a photo and a drawing of an estimated face to features that improve the estimate.

Richardson et al., "Learning detailed face reconstruction from a single image" (CVPR 2017). One network
has the published layers; the other one reads what FaceMesh's frozen layers see in the photo. Each gives
features, and from them a change of the estimate's raw numbers that starts at 0.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.networks.face_trunk import NEAR, FaceTrunk, ResidualBlock
from lifemask.networks.place_reader import PlaceReader
from lifemask.networks.regression_head import RegressionHead

CHANNELS = (32, 64, 128, 256)
"""Channels of the published network at a half, a quarter, ... of the image's resolution."""

WHOLE = 256
"""Features of the whole face that the trunk of the compact network gives."""


class PublishedCoarseNet(nn.Module):
    """The published layers: a 7 x 7 convolution, eight residual blocks, three connected layers.

    Batch normalisation is ours: the figure of the paper does not show whether it has any.
    """

    def __init__(self, given: int, outputs: int) -> None:
        """Start from random weights.

        Args:
            given: channels of the images: grey photo and feedback.
            outputs: raw numbers of an estimate; the paper's figure has 290.
        """
        super().__init__()
        first = CHANNELS[0]
        self.stem = nn.Sequential(
            nn.Conv2d(given, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        stages = [(first, first, 1), *((a, b, 2) for a, b in pairwise(CHANNELS))]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(ResidualBlock(a, b, stride), ResidualBlock(b, b))
                for a, b, stride in stages
            )
        )
        self.last = nn.Conv2d(CHANNELS[-1], outputs, 3, 1, 1)
        connected = [nn.Linear(outputs, outputs) for _ in range(3)]
        self.head = nn.Sequential(connected[0], nn.ReLU(), connected[1], nn.ReLU(), connected[2])
        nn.init.zeros_(connected[2].weight)
        nn.init.zeros_(connected[2].bias)

    def forward(self, images: Float[Tensor, "batch C S S"]) -> Float[Tensor, "batch outputs"]:
        """Return the features of images; of 200 pixels, the last map has the paper's 13 x 13 cells."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.last(self.blocks(self.stem(images))).mean((-2, -1))

    def change(
        self, features: Float[Tensor, "batch outputs"], raw: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, "batch outputs"]:
        """Return the change of an estimate; as published, only the drawing shows the estimate."""
        return self.head(features)


class CompactCoarseNet(nn.Module):
    """A trunk on frozen maps of the photo; the drawing is added to their coarse map.

    The paper hides the photo beside the estimated face. Here the photo's maps stay whole, and points of
    the estimate read them where they lie, as in the supervised descent method (Xiong and De la Torre,
    CVPR 2013). The head reads the estimate's numbers too, because a small drawing hardly shows some of
    them. Untrained, neither has an effect, and each pass gives the same face.
    """

    POINT_FEATURES = 16
    """What each point reads."""

    def __init__(
        self, feedback: int, outputs: int, *, coarse_size: int, last: int, points: int
    ) -> None:
        """Start from random weights.

        Args:
            feedback: channels of the drawing.
            outputs: raw numbers of an estimate.
            coarse_size: side of the coarse map, a multiple of 8; a drawing has twice as many pixels.
            last: features of the whole crop that the frozen layers give.
            points: how many points of the estimate read the maps.
        """
        super().__init__()
        self.feedback = nn.Conv2d(feedback, 64, 4, 2, 1, bias=False)
        nn.init.zeros_(self.feedback.weight)
        self.trunk = FaceTrunk(coarse_size=coarse_size, whole=WHOLE)
        self.level = nn.LayerNorm(last)
        self.estimate = nn.Linear(last + WHOLE, outputs)
        nn.init.zeros_(self.estimate.weight)
        nn.init.zeros_(self.estimate.bias)
        self.places = PlaceReader(points, near=NEAR, whole=WHOLE, hidden=self.POINT_FEATURES)
        self.correction = RegressionHead(
            points * self.POINT_FEATURES + outputs, outputs, hidden=WHOLE // 2
        )
        self.seen = last + WHOLE

    def forward(
        self,
        fine: Float[Tensor, "batch 32 f f"],
        coarse: Float[Tensor, "batch 64 c c"],
        last: Float[Tensor, "batch n"],
        drawing: Float[Tensor, "batch C f f"],
        points: Float[Tensor, "batch K 2"],
    ) -> Float[Tensor, "batch features"]:
        """Return features of the whole crop, and those of the points.

        Args:
            fine: map of the photo; see `BackboneMaps`.
            coarse: the same.
            last: the same, flattened.
            drawing: feedback in the frame of the photo.
            points: places of the estimate's points, in units of the crop.
        """
        near, whole = self.trunk(fine, coarse.float() + self.feedback(drawing))
        read = self.places(points.to(near), near, whole)
        return torch.cat([self.level(last.float()), whole, read.flatten(1)], dim=-1)

    def change(
        self, features: Float[Tensor, "batch features"], raw: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, "batch outputs"]:
        """Return the change of an estimate from features and its raw numbers."""
        seen, read = features[:, : self.seen], features[:, self.seen :]
        return self.estimate(seen) - raw + self.correction(torch.cat([read, raw], dim=-1))
