"""The skin pixels of the largest face, by perception alone: the same for all systems."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from lifemask.evaluation.config import Quality
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.observing import landmark_prediction, observe_largest
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation
from lifemask.perception.segmentation import SEGMENTATION_CLASSES

# Outlines among the dense points: eyes, brows and the outer border of the lips.
_NOT_SKIN = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)


class SkinSystem:
    """Returns the skin as `mask`, and landmarks; benchmarks use it, but it is not evaluated."""

    name = "skin"

    def __init__(self, perception: FacePerception, version: str) -> None:
        """Use these networks; `version` names their code and weights."""
        self.version = version
        self._perception = perception

    @classmethod
    def from_pretrained(cls) -> "SkinSystem":
        """Load the networks that ship with the package."""
        return cls(FacePerception.from_pretrained(), code_fingerprint(__name__))

    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the skin: segmented as face, inside the dense points, no eyes, brows or mouth."""
        observation = observe_largest(
            self._perception, pixels, crop=False, quality="full", segment=True
        )
        if observation is None:
            return None
        points = observation.landmarks478[:, :2].numpy()
        height, width = pixels.shape[:2]
        skin = _face_probability(observation, (height, width)) > 0.5
        skin &= _filled([points[ConvexHull(points[:468]).vertices]], (height, width))
        skin &= ~_filled([points[list(outline)] for outline in _NOT_SKIN], (height, width))
        return replace(landmark_prediction(observation), mask=skin)


def _face_probability(
    observation: FaceObservation, image_size: tuple[int, int]
) -> Float[np.ndarray, "H W"]:
    """Return the probability of face skin at each photo pixel, zero outside the segmented crop."""
    assert observation.segmentation is not None
    probability = observation.segmentation[SEGMENTATION_CLASSES.index("face_skin")]
    height, width = image_size
    rows, columns = torch.meshgrid(
        torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
    )
    to_photo = observation.segmentation_to_photo
    centres = torch.stack([columns, rows], dim=-1) - to_photo[:, 2]
    in_crop = centres @ torch.linalg.inv(to_photo[:, :2]).T
    grid = in_crop / probability.shape[-1] * 2 - 1
    sampled = torch.nn.functional.grid_sample(
        probability[None, None], grid[None], align_corners=False
    )
    return sampled[0, 0].numpy()


def _filled(
    polygons: list[Float[np.ndarray, "N 2"]], image_size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Return which pixels lie in one of the polygons, which have corners in photo pixels."""
    height, width = image_size
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon([(float(x) - 0.5, float(y) - 0.5) for x, y in polygon], fill=1)
    return np.array(image)
