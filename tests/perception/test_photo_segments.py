"""The segmentation is read at photo points, and is left out where it finds no face."""

import dataclasses

import numpy as np
import pytest
import torch

from lifemask.perception import FaceObservation, FacePerception
from lifemask.perception.photo_segments import (
    segmentation_at,
    skin_probability,
    with_trusted_segmentation,
)


@pytest.fixture(scope="module")
def observation(perception: FacePerception, portrait: np.ndarray) -> FaceObservation:
    return perception.observe(portrait, perception.detect(portrait)[0], segment=True)


def test_segmentation_is_read_at_its_own_pixels(observation: FaceObservation) -> None:
    assert observation.segmentation is not None
    size = observation.segmentation.shape[-1]
    rows, columns = np.random.default_rng(0).integers(0, size, (2, 50))
    crop_points = torch.tensor(np.stack([columns, rows], -1) + 0.5).float()
    affine = observation.segmentation_to_photo
    found = segmentation_at(observation, crop_points @ affine[:, :2].T + affine[:, 2])
    expected = observation.segmentation[:, rows, columns].T
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_without_segmentation_everything_is_skin(observation: FaceObservation) -> None:
    plain = dataclasses.replace(observation, segmentation=None)
    assert skin_probability(plain, torch.rand(5, 2) * 600).tolist() == [1.0] * 5


def test_a_segmentation_that_sees_no_face_is_not_trusted(observation: FaceObservation) -> None:
    seen = observation
    assert with_trusted_segmentation(seen) is seen
    assert seen.segmentation is not None
    nothing = torch.zeros_like(seen.segmentation)
    nothing[0] = 1
    blind = dataclasses.replace(seen, segmentation=nothing)
    assert with_trusted_segmentation(blind).segmentation is None
    mask_below = seen.segmentation.clone()
    mask_below[:, mask_below.shape[1] // 2 :] = nothing[:, mask_below.shape[1] // 2 :]
    masked = dataclasses.replace(seen, segmentation=mask_below)
    assert with_trusted_segmentation(masked) is masked
