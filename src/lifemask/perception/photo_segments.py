"""Samples the segmentation of an observed face at points of the photo."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.perception.observation import FaceObservation

_LEAST_SKIN = 0.05
"""The segmentation is used only if at least this share of the dense points lies on skin."""


def segmentation_at(
    observation: FaceObservation, image_points: Float[Tensor, "N 2"]
) -> Float[Tensor, "N 6"]:
    """Return class probabilities at photo pixels; without a segmentation, all is face skin."""
    if observation.segmentation is None:
        certain = image_points.new_zeros(len(image_points), 6)
        certain[:, 3] = 1
        return certain
    affine = observation.segmentation_to_photo.to(image_points)
    crop_points = (image_points - affine[:, 2]) @ torch.linalg.inv(affine[:, :2]).T
    size = observation.segmentation.shape[-1]
    normalised = (crop_points / size * 2 - 1)[None, None].float()
    return torch.nn.functional.grid_sample(
        observation.segmentation[None], normalised, padding_mode="border", align_corners=False
    )[0, :, 0].T


def skin_probability(
    observation: FaceObservation, image_points: Float[Tensor, "N 2"]
) -> Float[Tensor, "N"]:
    """Return the probability of skin at photo pixels; 1 without a segmentation."""
    segments = segmentation_at(observation, image_points)
    # Soft borders of the segmentation are neither skin nor hair.
    return ((segments[:, 2] + segments[:, 3] - 0.5) * 4).clamp(0, 1)


def with_trusted_segmentation(observation: FaceObservation) -> FaceObservation:
    """Return the observation; remove its segmentation if that finds almost no skin on the face.

    The network was trained on whole heads in colour. It may fail on a grey profile that is cropped
    to the face.
    """
    seen = segmentation_at(observation, observation.landmarks478[:, :2])
    if float((seen[:, 2] + seen[:, 3] > 0.5).float().mean()) >= _LEAST_SKIN:
        return observation
    return replace(observation, segmentation=None)
