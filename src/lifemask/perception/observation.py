"""Measurements of one face: a box with five points, or all that a fit needs."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


# Compared by identity: comparing tensors does not give a single truth value.
@dataclass(frozen=True, eq=False)
class FaceDetection:
    """A face detected in a photo. Photo pixels: x right, y down, pixel centres at +0.5."""

    box_xyxy: Float[Tensor, "4"]
    """Left, top, right, bottom; may extend beyond the photo."""
    score: float
    """The detector's score, 0..1."""
    keypoints5: Float[Tensor, "5 2"]
    """Eye, eye, nose tip, mouth corner, mouth corner; the subject's right comes first (left in the
    image if the head is upright)."""
    roll_radians: float | None = None
    """Roll of the head, positive if it is rotated clockwise in the image; None: that of the eyes."""


# Compared by identity: comparing tensors does not give a single truth value.
@dataclass(frozen=True, eq=False)
class FaceObservation:
    """All that perception measures on one face. Photo pixels as in `FaceDetection`."""

    box_xyxy: Float[Tensor, "4"]
    """The detector's box, or the tight box of the landmarks if nothing was detected."""
    score: float
    """The detector's score 0..1; 0 if the whole photo was taken as the face."""
    keypoints5: Float[Tensor, "5 2"]
    """The detector's points, or their counterparts among the landmarks."""
    landmarks478: Float[Tensor, "478 3"]
    """x, y in photo pixels; z in pixels too, smaller is nearer, relative to the head's middle."""
    landmark_sigma: Float[Tensor, "478"]
    """Root mean square distance between the passes (jittered, flipped) and their mean, pixels."""
    presence: float
    """0..1: confidence that this is a face with correct points; for profiles, agreement of the
    network's passes. Low where no hypothesis convinces."""
    blendshapes: Float[Tensor, "52"]
    """Weights 0..1 in the order of `ARKIT_EXPRESSIONS`; `tongueOut` is always 0."""
    segmentation: Float[Tensor, "6 S S"] | None
    """Probabilities of `SEGMENTATION_CLASSES` on an upright crop; None if not computed."""
    segmentation_to_photo: Float[Tensor, "2 3"]
    """Affine from the crop's pixel coordinates (x, y, 1) to photo pixels; centres at +0.5."""
    embedding: Float[Tensor, "128"] | None
    """Identity: the distance of two photos of a person is below about 0.6; None if not computed."""
    in_front: tuple[Float[Tensor, "N 2"], ...] = ()
    """Outlines of other faces that hide a part of this one, photo pixels; they were painted over before
    it was measured."""
