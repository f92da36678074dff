"""Teeth that stay in the face of everybody, also where lips are thin and the jaw is wide open."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.alignment import align_points

_BACK_METRES = 0.0012
"""So much farther back than the artist's are all teeth."""
_ROOT_BACK_METRES, _ROOT_UP_METRES = 0.0037, 0.0014
"""So much farther back and up are the roots of the lower teeth, which lie in the flesh of the lip."""
_CROWN_METRES, _ROOT_METRES = 0.0067, 0.0147
"""Distance below the highest lower tooth where this begins, and where it is whole."""
_TURNS_METRES = 0.001


def behind_lips(
    mean: Float[Tensor, "V 3"],
    expressions: Float[Tensor, "E V 3"],
    *,
    upper: tuple[int, int],
    lower: tuple[int, int],
) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "E V 3"]]:
    """Return the mean head and its expressions with teeth farther behind the lips.

    Args:
        mean: vertices, metres.
        expressions: displacements at weight 1, metres; the jaw turns the lower teeth as a solid body.
        upper: first upper tooth vertex, and the one after the last.
        lower: the same for the lower teeth.
    """
    above, below = torch.arange(*upper), torch.arange(*lower)
    backward = mean.new_tensor([0, 0, -_BACK_METRES])
    y = mean[below, 1]
    root = ((y.max() - y - _CROWN_METRES) / (_ROOT_METRES - _CROWN_METRES)).clamp(0, 1)[:, None]
    change = backward + root * mean.new_tensor([0, _ROOT_UP_METRES, -_ROOT_BACK_METRES])
    turned = expressions.clone()
    for shape in turned:
        if float(shape[below].norm(dim=-1).max()) > _TURNS_METRES:
            _, rotation, _ = align_points(mean[below], mean[below] + shape[below])
            shape[below] += change @ rotation.T - change
    moved = mean.index_add(0, above, backward.expand(len(above), 3))
    return moved.index_add(0, below, change), turned
