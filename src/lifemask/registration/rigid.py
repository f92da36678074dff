"""Rigid motions in numpy: the best motion between two sets of points, and small motions."""

import numpy as np
import torch
from jaxtyping import Float

from lifemask.geometry.alignment import align_points
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector

Array = np.ndarray


def align(
    source: Float[Array, "N 3"],
    target: Float[Array, "N 3"],
    weights: Float[Array, "N"] | None = None,
    *,
    with_scale: bool = False,
) -> tuple[float, Float[Array, "3 3"], Float[Array, "3"]]:
    """Return scale, rotation and translation that move source onto target (least squares).

    The scale is 1 unless `with_scale`; without `weights` all points count the same.
    """
    trust = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
    scale, rotation, translation = align_points(
        torch.as_tensor(source, dtype=torch.float64),
        torch.as_tensor(target, dtype=torch.float64),
        trust,
        with_scale=with_scale,
    )
    return float(scale), rotation.numpy(), translation.numpy()


def rigid_motions(points: Float[Array, "N 3"]) -> Float[Array, "6 N 3"]:
    """Return movements of points per radian about the three axes, then per metre along them."""
    axes = np.eye(3)
    rotations = [np.cross(axis, points) for axis in axes]
    return np.stack([*rotations, *(np.broadcast_to(axis, points.shape) for axis in axes)])


def rotation_matrix(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Return the rotation about a vector; its length is the angle in radians."""
    return matrix_from_rotation_vector(torch.from_numpy(np.ascontiguousarray(vector))).numpy()


def cross_matrices(vectors: Float[Array, "N 3"]) -> Float[Array, "N 3 3"]:
    """Return the matrices M with M @ x = cross(vector, x)."""
    return cross_product_matrix(torch.from_numpy(vectors)).numpy()
