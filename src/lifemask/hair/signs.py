"""Decides whether the photo shows enough of the hair to make a head of hair from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.hair import rays
from lifemask.hair.growth import Growth, segments_at
from lifemask.hair.skull import Skull
from lifemask.perception.observation import FaceObservation

_HEIGHTS = (0.0, 0.01, 0.02, 0.03)
"""Metres above the head at which the photo is asked for cloth, and its border for the crown."""
_FRONT = 0.25
"""Least z of the direction of rays at the front of the scalp."""
_MOST_HIDDEN, _LEAST_SHOWN, _LEAST_HAIRY, _LEAST_VOLUME = 0.3, 0.5, 0.3, 0.0012
"""Limits of the signs below; the volume is the thickness times the share of hair, metres. Measured on
40 photos: caps have 0.9 hidden, others 0.1; cropped foreheads 0.1 shown, others 0.9; bald and shaven
heads a volume of 0.9 mm, others from 1.4 mm."""


@dataclass(frozen=True)
class HairSigns:
    """What the photo shows of the hair."""

    shown: float
    """Share of the front of the scalp that lies inside the photo."""
    hairy: float
    """Share of hair on the scalp that it shows."""
    hidden: float
    """Share of cloth and other things on the scalp that it shows."""
    thickness: float
    """Mean thickness of the hair on its outline, metres."""

    def objection(self) -> tuple[str, str] | None:
        """Return why no head of hair should be made, as one word and as a sentence; None if nothing."""
        if self.hidden > _MOST_HIDDEN:
            return "covered", "Something like a hat covers the scalp."
        if self.shown < _LEAST_SHOWN:
            return (
                "cropped",
                "The photo ends below the crown and does not show the outline of the hair.",
            )
        if self.hairy < _LEAST_HAIRY:
            return "bald", "The photo shows a scalp without hair."
        if self.hairy * self.thickness < _LEAST_VOLUME:
            return "short", "The hair is so short that it has no thickness."
        return None


def hair_signs(
    skull: Skull, growth: Growth, camera: PerspectiveCamera, observation: FaceObservation
) -> HairSigns:
    """Return what the photo shows of the hair.

    Args:
        growth: of hair on this skull in this photo.
        camera: the photo's.
        observation: the photo's measurements, with a segmentation.
    """
    origin, direction = rays.grid_rays(*skull.bare.shape)
    lengths = skull.bare[..., None] + torch.tensor(_HEIGHTS)
    points = origin[:, :, None] + direction[:, :, None] * lengths[..., None]
    segments, inside = segments_at(points, camera, observation)
    towards = rays.facing(points[:, :, 0], direction, camera) > 0.1
    scalp = skull.scalp > 0.5
    # Rays are closer to each other near the crown.
    area = direction[..., ::2].norm(dim=-1)
    front = area * scalp * (direction[..., 2] > _FRONT)
    visible = area * scalp * towards * inside[..., 0]

    def mean(values: Tensor, weight: Tensor) -> float:
        return float((values * weight).sum() / weight.sum().clamp(min=1e-6))

    return HairSigns(
        shown=mean(inside[..., 1].float(), front),
        hairy=mean(segments[..., 0, 1], visible),
        hidden=mean((segments[..., 4] + segments[..., 5]).amax(-1), visible),
        thickness=mean(growth.reach, area * scalp * growth.outline),
    )
