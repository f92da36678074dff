"""Rotations in three dimensions: rotation vectors, matrices, and the head's yaw, pitch and roll."""

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_rotation_vector(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation about `vector` by its length in radians (Rodrigues' formula).

    It is differentiable everywhere, also at the zero vector.
    """
    angle_squared = (vector * vector).sum(-1)[..., None, None]
    small = angle_squared < 1e-8
    safe = torch.where(small, torch.ones_like(angle_squared), angle_squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - angle_squared / 6, torch.sin(angle) / angle)
    cosine = torch.where(small, 0.5 - angle_squared / 24, (1 - torch.cos(angle)) / safe)
    skew = cross_product_matrix(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + sine * skew + cosine * (skew @ skew)


def cross_product_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the matrix K with K @ u = vector x u."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return rows.reshape(*vector.shape[:-1], 3, 3)


def matrix_from_yaw_pitch_roll(
    yaw: Float[Tensor, "*batch"], pitch: Float[Tensor, "*batch"], roll: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Return R = Rz(roll) @ Rx(pitch) @ Ry(yaw) in head axes (+X left, +Y up, +Z forward).

    Args:
        yaw: radians; positive rotates the face towards +X, the subject's left.
        pitch: radians; positive rotates the face down.
        roll: radians; positive is counter-clockwise seen from the front.
    """
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    cy, sy, cp, sp, cr, sr = (
        f(angle) for angle in (yaw, pitch, roll) for f in (torch.cos, torch.sin)
    )

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).reshape(*yaw.shape, 3, 3)

    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    about_z = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return about_z @ about_x @ about_y


def matrix_from_columns(columns: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation from its first two columns, made orthonormal by Gram and Schmidt's method.

    This representation is continuous over all rotations, unlike angles (Zhou et al., "On the
    continuity of rotation representations in neural networks", 2019).
    """
    first = torch.nn.functional.normalize(columns[..., 0, :], dim=-1)
    rest = columns[..., 1, :]
    rest = rest - (first * rest).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(rest, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
