"""Dense points that correspond to the points of other landmark schemes."""

import torch
from jaxtyping import Float
from torch import Tensor

AFLW21_FROM_DENSE478 = (
    *(70, 52, 107, 336, 282, 300),
    *(33, 468, 173, 398, 473, 263),
    *(132, 64, 1, 294, 361, 62, 13, 292, 175),
)
"""For each of AFLW's 21 points the dense point with the smallest median distance to it on 1,401
crops of the research training set with absolute yaw up to 45 degrees, made symmetric."""

IBUG68_FROM_DENSE478 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""Dense points nearest to the 68 iBUG points; their errors are largest on brows and jaw."""

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline of the dense face mesh, in order. These points slide along the contour of the face."""

KEYPOINT_LANDMARKS: tuple[tuple[int, ...], ...] = ((468,), (473,), (1,), (61,), (291,))
"""Counterparts of the detector's five points: irises, nose tip, mouth corners."""


def keypoints_of(points: Float[Tensor, "478 d"]) -> Float[Tensor, "5 2"]:
    """Return the five points of a detection from the dense ones."""
    return torch.stack([points[list(group), :2].mean(0) for group in KEYPOINT_LANDMARKS])
