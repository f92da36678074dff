"""From a whole photo to a system's prediction: frame the face, predict it and its mirror image."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.data.mirroring import mirror478, mirrored_face
from lifemask.data.observed import landmark_weights
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.morphable.averaging import average_faces
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.framing import (
    FaceFrame,
    crop_pixels,
    crop_points,
    face_frame,
    photo_camera,
    photo_light,
    photo_points,
)
from lifemask.perception.observation import FaceObservation
from lifemask.training.passes import predict
from lifemask.training.system import FramedFaces, System

CROP_SIDE, CROP_MIDDLE = 1.2, (0.5, 0.44)
"""The usual frame of a photo that is cut to one face, in units of the photo's longer side and of its
width and height: the median over such photos."""

TRUST_CHANGE = 0.03
"""Frame change at which a prediction counts a quarter of one that keeps its frame."""

LARGE_CHANGE = 0.08
"""Frame change from which on a face is predicted again, in its own frame."""


@dataclass(frozen=True)
class SystemPredictor:
    """Lets a system predict the faces of photos.

    The frame follows the landmarks. Where nothing was detected the face fills the photo, and the
    usual frame of such photos is tried too, as landmarks of profiles are often wrong. Each frame is
    predicted twice, as it is and mirrored, and the predictions are averaged. A prediction whose own
    frame differs from the frame that it was given counts less: a network that finds no face in its
    frame does not predict one there. A face that lies elsewhere is predicted again, in its own frame.
    """

    system: System
    """Trained; on any device."""
    model: MorphableModel
    """The head of its faces, on the CPU."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> ExplainedFace:
        """Return the face in the photo's pixels; the camera looks at the middle of its frame.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces; a score of 0 means that the photo is the face.
        """
        frames = [face_frame(observation.landmarks478)]
        if observation.score == 0:
            frames.append(whole_photo_frame(pixels.shape[0], pixels.shape[1]))
        found = [self._weighed(pixels, frame, observation) for frame in frames]
        face = _average([pair for pairs in found for pair in pairs])
        own = face_frame(self.dense_points(face))
        if min(frame_change(frame, own) for frame in frames) <= LARGE_CHANGE:
            return face
        # A network sees best what lies in its frame as in its training.
        return _average(self._weighed(pixels, own, observation))

    def _weighed(
        self, pixels: UInt8[np.ndarray, "H W 3"], frame: FaceFrame, observation: FaceObservation
    ) -> list[tuple[ExplainedFace, float]]:
        """Return the two predictions of a frame, and how much each counts."""
        return [
            (
                prediction,
                (TRUST_CHANGE + frame_change(frame, face_frame(self.dense_points(prediction))))
                ** -2,
            )
            for prediction in self.predict_frame(pixels, frame, observation)
        ]

    def dense_points(self, face: ExplainedFace) -> Float[Tensor, "478 2"]:
        """Return where the dense points of a face are seen, in pixels."""
        dense478 = self.model.dense478
        if dense478 is None:
            raise ValueError("This model has no dense landmarks. Use the default head.")
        vertices = self.model.vertices(face.coefficients)
        return face.camera.project(dense478.points(vertices, self.model.triangles))[:, :2]

    def predict_frame(
        self, pixels: UInt8[np.ndarray, "H W 3"], frame: FaceFrame, observation: FaceObservation
    ) -> tuple[ExplainedFace, ExplainedFace]:
        """Return the predictions of a frame as it is and of its mirror image, in photo pixels."""
        size = self.system.crop_size
        crop = crop_pixels(pixels, frame, size)
        faces = FramedFaces(torch.stack([crop, crop.flip(-1)]))
        if self.system.uses_landmarks:
            points = crop_points(observation.landmarks478[:, :2], frame, size)
            weight = landmark_weights(observation)
            order = mirror478()
            flipped = torch.stack([size - points[order, 0], points[order, 1]], -1)
            faces = replace(
                faces,
                landmarks=torch.stack([points, flipped]),
                landmark_weight=torch.stack([weight, weight[order]]),
            )
        if self.system.uses_frames:
            faces = map_tensors(lambda t: t.unsqueeze(1), faces)
        device = next(self.system.parameters()).device
        found = predict(self.system, map_tensors(lambda t: t.to(device), faces)).to("cpu")
        if self.system.uses_frames:
            found = map_tensors(lambda t: t.squeeze(1), found)
        image_size = (pixels.shape[0], pixels.shape[1])
        return (
            face_in_photo(found[0], frame, size, image_size),
            face_in_photo(mirrored_face(found[1], size), frame, size, image_size),
        )


def _average(weighed: list[tuple[ExplainedFace, float]]) -> ExplainedFace:
    faces = [map_tensors(lambda t: t.unsqueeze(0), face) for face, _ in weighed]
    return average_faces(joined(faces), torch.tensor([weight for _, weight in weighed]))


def face_in_photo(
    face: ExplainedFace, frame: FaceFrame, size: int, image_size: tuple[int, int]
) -> ExplainedFace:
    """Return the face of a crop in photo pixels; the principal point stays where the crop has it.

    Thus the face looks the same wherever the crop lies in the photo.

    Args:
        face: of one crop of `size` x `size` pixels.
        frame: where the crop lies.
        size: pixels on a side of the crop.
        image_size: (height, width) of the photo.
    """
    camera = photo_camera(face.camera, frame, size, image_size)
    moved = replace(face, camera=camera, light=photo_light(face.light, frame))
    if face.depth is not None:
        moved = replace(moved, depth=_depth_in_photo(face.depth, frame, image_size))
    if face.landmarks is not None:
        points = photo_points(face.landmarks.points, frame, size)
        sigma = face.landmarks.sigma * frame.side / size
        moved = replace(moved, landmarks=replace(face.landmarks, points=points, sigma=sigma))
    return moved


def _depth_in_photo(
    depth: Float[Tensor, "S S"], frame: FaceFrame, image_size: tuple[int, int]
) -> Float[Tensor, "H W"]:
    """Return the depth of a crop at the pixels of the photo, 0 outside of the crop."""
    size = depth.shape[-1]
    height, width = image_size
    places = torch.stack(
        torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy"), -1
    )
    grid = crop_points(places.flatten(0, 1), frame, size).view(1, height, width, 2) / size * 2 - 1
    # Bilinear in 1 / depth, which is exact on planes, and only among pixels of the face.
    known = (depth > 0).to(depth)
    inverse = known / torch.where(depth > 0, depth, 1)

    def sampled(image: Tensor, mode: str) -> Float[Tensor, "H W"]:
        return torch.nn.functional.grid_sample(
            image[None, None], grid, mode=mode, padding_mode="zeros", align_corners=False
        )[0, 0]

    share, on_face = sampled(known, "bilinear"), sampled(known, "nearest") > 0
    return torch.where(on_face, share / sampled(inverse, "bilinear").clamp(min=1e-6), 0)


def whole_photo_frame(height: int, width: int) -> FaceFrame:
    """Return the usual frame of the face in a photo that is cut to it, upright.

    Args:
        height: of the photo in pixels.
        width: of the photo in pixels.
    """
    return FaceFrame(
        torch.tensor([width * CROP_MIDDLE[0], height * CROP_MIDDLE[1]]),
        torch.tensor(CROP_SIDE * max(height, width)),
        torch.tensor(0.0),
    )


def frame_change(first: FaceFrame, second: FaceFrame) -> float:
    """Return how far two frames are apart: shift in sides plus |log scale| plus roll in radians."""
    shift = (first.centre - second.centre).norm() / first.side
    roll = torch.remainder(second.roll - first.roll + math.pi, 2 * math.pi) - math.pi
    return float(shift + (second.side / first.side).log().abs() + roll.abs())
