"""Decides whether a face agrees with the focal length that its photo states.

A photo that was cropped after it was taken can keep the focal length of the whole, and some programs
write wrong ones. With such a focal length the camera comes too close to the head, and the perspective
bends the face.
"""

from lifemask.fitting.landmark_fit import PoseAndShape

NEAREST_METRES = 0.2
"""Nobody takes a photo of a whole face from nearer."""

MISFIT_PER_METRE = 18.0
"""Cost above that of a free focal length at which a stated one is dropped, for each metre between
camera and head; the nearer the camera, the more a wrong focal length bends the face. With the true one,
drawn heads cost at most 5 more at 30 cm and 2 more at 1 m; portraits with one that puts them at 30 cm
cost 6 to 23 more."""

USUAL_SIGMA = 0.04
"""Standard deviation of a target, as a share of the face's size, for which these costs were measured."""


def focal_contradiction(
    stated: PoseAndShape, *, cost: float, free_cost: float, sigma: float = USUAL_SIGMA
) -> str | None:
    """Return why a stated focal length cannot be right, or None.

    Args:
        stated: the face, fitted to landmarks with the stated focal length.
        cost: its `shape_cost`.
        free_cost: that of the face fitted without a focal length.
        sigma: usual standard deviation of a target, as a share of the face's size; the same misfit
            costs more where targets are surer.
    """
    distance = float(stated.translation[2])
    if distance < NEAREST_METRES:
        return (
            f"the camera would be {100 * distance:.2g} cm from the head, nearer than "
            f"{100 * NEAREST_METRES:.0f} cm"
        )
    if cost > free_cost + MISFIT_PER_METRE * distance * (USUAL_SIGMA / sigma) ** 2:
        return "the face fits much better with another focal length"
    return None
