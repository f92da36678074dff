"""Decides whether a face agrees with the focal length that its photo states.

A photo that was cropped after it was taken can keep the focal length of the whole, and some programs
write wrong ones. With such a focal length the camera comes too close to the head, and the perspective
bends the face.
"""

import math

from lifemask.fitting.landmark_fit import PoseAndShape
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.morphable.explained_face import ExplainedFace

NEAREST_METRES = 0.2
"""Nobody takes a photo of a whole face from nearer."""

MISFIT_PER_METRE = 18.0
"""Cost above that of a free focal length at which a stated one is dropped, for each metre between
camera and head; the nearer the camera, the more a wrong focal length bends the face. With the true one,
drawn heads cost at most 5 more at 30 cm and 2 more at 1 m; portraits with one that puts them at 30 cm
cost 6 to 23 more."""

NEARER_LOG = 0.8
"""Logarithm of how many times nearer than predicted a stated focal length may put the camera. Networks
predict cameras that are too far for near faces. Of 90 drawn faces between 20 and 40 cm, 84 % keep their
true focal length; of 90 at 60 to 130 cm, 80 % lose one that puts them there. By the cost above, 61 % keep
the true one where 84 % lose the wrong one."""


def predicted_contradiction(focal_pixels: float, prediction: ExplainedFace) -> str | None:
    """Return why a stated focal length does not agree with a predicted face, or None.

    Args:
        focal_pixels: the focal length that the photo states.
        prediction: the face in the photo's pixels; it keeps its size there.
    """
    times = float(prediction.camera.focal_pixels) / focal_pixels
    if reason := too_near(float(viewpoint_of(prediction.camera).distance) / times):
        return reason
    if math.log(times) > NEARER_LOG:
        return f"the face looks {times:.1f} times as far away as the focal length says"
    return None


def too_near(distance_metres: float) -> str | None:
    """Return why a camera cannot be so near, or None."""
    if distance_metres >= NEAREST_METRES:
        return None
    return (
        f"the camera would be {100 * distance_metres:.2g} cm from the head, nearer than "
        f"{100 * NEAREST_METRES:.0f} cm"
    )


def focal_contradiction(stated: PoseAndShape, *, cost: float, free_cost: float) -> str | None:
    """Return why measured landmarks contradict a stated focal length, or None.

    Args:
        stated: the face, fitted to landmarks with the stated focal length.
        cost: its `shape_cost`.
        free_cost: that of the face fitted without a focal length.
    """
    distance = float(stated.translation[2])
    if reason := too_near(distance):
        return reason
    if cost > free_cost + MISFIT_PER_METRE * distance:
        return "the face fits much better with another focal length"
    return None
