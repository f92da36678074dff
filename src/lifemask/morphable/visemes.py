"""The 15 visemes of speech, each a sum of ARKit expressions.

Names and phonemes are those of Meta's "Viseme Reference" (Oculus Lipsync, 2017-2024), which most
programs that animate speech use. It shows the mouths as pictures; the weights below follow them on the
head of this package.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def _both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


VISEMES: dict[str, dict[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": _both("mouthPress", 0.45) | {"mouthRollLower": 0.2, "mouthRollUpper": 0.2},
    "viseme_FF": _both("mouthUpperUp", 0.3)
    | {"jawOpen": 0.05, "mouthRollLower": 0.75, "mouthShrugUpper": 0.15},
    "viseme_TH": _both("mouthLowerDown", 0.2) | {"tongueOut": 0.75},
    "viseme_DD": _both("mouthLowerDown", 0.35) | _both("mouthUpperUp", 0.15) | {"jawOpen": 0.14},
    "viseme_kk": _both("mouthLowerDown", 0.2)
    | _both("mouthStretch", 0.2)
    | _both("mouthUpperUp", 0.15)
    | {"jawOpen": 0.24},
    "viseme_CH": _both("mouthUpperUp", 0.15)
    | _both("mouthLowerDown", 0.15)
    | {"jawOpen": 0.05, "mouthFunnel": 0.4, "mouthPucker": 0.25},
    "viseme_SS": _both("mouthStretch", 0.3)
    | _both("mouthLowerDown", 0.4)
    | _both("mouthUpperUp", 0.25)
    | {"jawOpen": 0.04},
    "viseme_nn": _both("mouthLowerDown", 0.25) | _both("mouthUpperUp", 0.15) | {"jawOpen": 0.18},
    "viseme_RR": _both("mouthLowerDown", 0.15)
    | {"jawOpen": 0.14, "mouthFunnel": 0.35, "mouthPucker": 0.2},
    "viseme_aa": _both("mouthLowerDown", 0.2) | _both("mouthUpperUp", 0.2) | {"jawOpen": 0.6},
    "viseme_E": _both("mouthStretch", 0.3)
    | _both("mouthLowerDown", 0.25)
    | _both("mouthUpperUp", 0.25)
    | {"jawOpen": 0.32},
    "viseme_I": _both("mouthSmile", 0.3)
    | _both("mouthStretch", 0.2)
    | _both("mouthLowerDown", 0.3)
    | _both("mouthUpperUp", 0.15)
    | {"jawOpen": 0.16},
    "viseme_O": {"jawOpen": 0.35, "mouthFunnel": 0.4, "mouthPucker": 0.4},
    "viseme_U": {"jawOpen": 0.06, "mouthFunnel": 0.15, "mouthPucker": 0.85},
}
"""Weights of ARKit's expressions for each viseme, in the order of Oculus Lipsync."""


def viseme_weights(expressions: Sequence[str]) -> Float[Tensor, "15 E"]:
    """Return the weight of each expression in each viseme; expressions that a model lacks are left out.

    Args:
        expressions: the names of a model's expressions, in its order.
    """
    weights = torch.zeros(len(VISEMES), len(expressions))
    for row, mixture in enumerate(VISEMES.values()):
        for name, weight in mixture.items():
            if name in expressions:
                weights[row, expressions.index(name)] = weight
    return weights
