"""The tongue: at rest it fits between the teeth, and `tongueOut` opens the mouth for it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

NAME = "tongueOut"
OPENING = {
    "jawOpen": 0.4,
    "mouthLowerDownLeft": 0.45,
    "mouthLowerDownRight": 0.45,
    "mouthUpperUpLeft": 0.2,
    "mouthUpperUpRight": 0.2,
}
"""Weights of the expressions that make way for the tongue. With them, the tongues of random people touch
neither teeth nor lips."""
_REST_WIDTH, _REST_THICKNESS, _REST_BACK_METRES = 0.8, 0.65, 0.005
"""The artist's tongue lies in the molars; at rest it is this much narrower, thinner from below, and
farther back."""
_OUT_WIDTH, _OUT_THICKNESS, _OUT_LIFT_METRES = 0.95, 0.7, 0.0012
"""A tongue that is out is again flatter and narrower, and higher, away from the lower lip."""
_BEGINS_METRES, _WHOLE_METRES = 0.075, 0.04
"""Distance behind the tip where these changes begin, and where they are whole."""
_MIDDLE_METRES = 0.005
"""Width of the window along the tongue in which its height is measured."""


def between_teeth(mean: Float[Tensor, "V 3"], tongue: tuple[int, int]) -> Float[Tensor, "V 3"]:
    """Return the mean head, metres, with a tongue that touches no tooth.

    Args:
        mean: vertices, metres.
        tongue: first vertex of the tongue, and the one after its last.
    """
    rows = torch.arange(*tongue)
    x, y, z = mean[rows].unbind(-1)
    near = (z[:, None] - z).abs() < _MIDDLE_METRES
    top = torch.where(near, y, -torch.inf).amax(-1)
    change = torch.stack(
        [
            (_REST_WIDTH - 1) * x,
            (_REST_THICKNESS - 1) * (y - top),
            torch.full_like(z, -_REST_BACK_METRES),
        ],
        -1,
    )
    return mean.index_add(0, rows, _front(z) * change)


def with_open_lips(
    neutral: Float[Tensor, "V 3"],
    morphs: Float[Tensor, "E V 3"],
    names: Sequence[str],
    tongue: tuple[int, int],
) -> Float[Tensor, "E V 3"]:
    """Return morph targets whose `tongueOut` opens the mouth as far as the tongue needs.

    The model's own `tongueOut` moves only the tongue. Fits need that: no landmark lies on a tongue, so
    they would open mouths with it.

    Args:
        neutral: a person's vertices, metres.
        morphs: displacements of the model's expressions at weight 1, metres.
        names: of the expressions.
        tongue: first vertex of the tongue, and the one after its last.
    """
    out = morphs[names.index(NAME)].clone()
    rows = slice(*tongue)
    out[rows] += _flattening(neutral[rows] + out[rows])
    for name, weight in OPENING.items():
        out += weight * morphs[names.index(name)]
    return morphs.index_copy(0, torch.tensor([names.index(NAME)]), out[None])


def without_opening(weights: Float[Tensor, "E"], names: Sequence[str]) -> Float[Tensor, "E"]:
    """Return weights for targets `with_open_lips` that give the face of weights for the model's own.

    What `tongueOut` opens is taken from the other expressions, as far as they have it.
    """
    out, left = weights[names.index(NAME)], weights.clone()
    for name, share in OPENING.items():
        left[names.index(name)] -= share * out
    return left.clamp(min=0)


def _flattening(tongue: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Return displacements that make the front of a tongue flat and narrow, metres."""
    x, y, z = tongue.unbind(-1)
    window = torch.exp(-((z[:, None] - z) ** 2) / (2 * _MIDDLE_METRES**2))
    middle = (window @ y) / window.sum(-1)
    flatter = (_OUT_THICKNESS - 1) * (y - middle) + _OUT_LIFT_METRES
    return _front(z) * torch.stack([(_OUT_WIDTH - 1) * x, flatter, torch.zeros_like(z)], -1)


def _front(z: Float[Tensor, "N"]) -> Float[Tensor, "N 1"]:
    """Return how far points of a tongue belong to its front part, 0 to 1."""
    share = (_BEGINS_METRES - (z.max() - z)) / (_BEGINS_METRES - _WHOLE_METRES)
    share = share.clamp(0, 1)
    return (share * share * (3 - 2 * share))[:, None]
