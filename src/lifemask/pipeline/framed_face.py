"""A fitted face of a photo as second stages see it: cut out, with the skin that is seen."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.framing import (
    FaceFrame,
    crop_camera,
    crop_pixels,
    crop_points,
    photo_points,
)
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import skin_probability
from lifemask.training.system import FramedFaces


def framed_face(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    face: ExplainedFace,
    frame: FaceFrame,
    size: int,
) -> FramedFaces:
    """Return one face in a frame without rotation, so that the axes of its light are the photo's.

    Args:
        pixels: the photo, sRGB.
        observation: of the face; without a segmentation, all is taken for skin.
        face: fitted, in the photo's pixels.
        frame: the part of the photo to show.
        size: pixels on a side of the result.
    """
    steps = torch.arange(size) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    skin = skin_probability(observation, photo_points(grid, frame, size)).view(size, size)
    points = crop_points(observation.landmarks478.new_tensor([[0.0, 0.0]]), frame, size)
    left, top = points[0].tolist()
    height, width = pixels.shape[:2]
    scale = size / float(frame.side)
    inside = (steps > left) & (steps < left + width * scale)
    skin = skin * inside * ((steps > top) & (steps < top + height * scale))[:, None]
    smooth = replace(
        face,
        camera=crop_camera(face.camera, frame, size),
        albedo_map=None,
        displacement_map=None,
        light_map=None,
        depth=None,
        normals=None,
        landmarks=None,
    )
    return FramedFaces(crop_pixels(pixels, frame, size), previous=smooth, skin=skin)
