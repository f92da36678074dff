"""The camera that projects points of a fixed head to landmarks."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.alignment import align_points
from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector


def pose_points(
    points: Float[Tensor, "N 3"],
    landmarks: Float[Tensor, "N 3"],
    weights: Float[Tensor, "N"],
    image_size: tuple[int, int],
    *,
    distance_metres: float = 0.9,
    steps: int = 10,
) -> PerspectiveCamera:
    """Return the camera that projects fixed points as near as possible to their landmarks.

    It uses Gauss-Newton on the six parameters of the pose. The focal length follows from a given
    distance, because landmarks alone hardly determine both.

    Args:
        points: head space, metres.
        landmarks: x and y in pixels; z in pixels too, smaller is nearer, used only for the start.
        weights: importance of each point, not all zero.
        image_size: (height, width) in pixels; the principal point is its middle.
        distance_metres: distance of the head's origin from the camera at the start.
        steps: Gauss-Newton steps.
    """
    points, landmarks, weights = points.double(), landmarks.double(), weights.double()
    centre = landmarks.new_tensor([image_size[1] / 2, image_size[0] / 2])
    scale, rotation, shift = align_points(points, landmarks, weights, with_scale=True)
    focal = scale * distance_metres
    translation = torch.cat([(shift[:2] - centre) / scale, scale.new_tensor([distance_metres])])
    for _ in range(steps):
        turned = points @ rotation.T
        camera = turned + translation
        inverse = 1 / camera[:, 2]
        projected = camera[:, :2] * (focal * inverse)[:, None] + centre
        residual = projected - landmarks[:, :2]
        by_camera = torch.zeros(len(points), 2, 3, dtype=points.dtype)
        by_camera[:, 0, 0] = by_camera[:, 1, 1] = focal * inverse
        by_camera[:, :, 2] = -focal * camera[:, :2] * (inverse**2)[:, None]
        jacobian = torch.cat([by_camera @ -cross_product_matrix(turned), by_camera], dim=-1)
        weighted = jacobian * weights[:, None, None]
        hessian = torch.einsum("nia,nib->ab", weighted, jacobian)
        gradient = torch.einsum("nia,ni->a", weighted, residual)
        step = torch.linalg.solve(hessian, -gradient)
        rotation = matrix_from_rotation_vector(step[:3]) @ rotation
        translation = translation + step[3:]
    return PerspectiveCamera(
        focal.float(), centre.float(), rigid_transform(rotation, translation).float(), image_size
    )
