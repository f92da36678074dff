"""Random expressions: a few shapes at a time, with lids that match the gaze."""

import numpy as np

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS

_INDEX = {name: index for index, name in enumerate(ARKIT_EXPRESSIONS)}

# Shapes that move together, with the range of their weights. "*" stands for both sides.
_MOUTHS: dict[str, dict[str, tuple[float, float]]] = {
    "rest": {},
    "smile": {
        "mouthSmile*": (0.3, 0.8), "cheekSquint*": (0.1, 0.6), "mouthDimple*": (0.0, 0.3),
        "mouthPress*": (0.0, 0.2),
    },
    "open smile": {
        "mouthSmile*": (0.5, 1.0), "cheekSquint*": (0.2, 0.8), "mouthUpperUp*": (0.25, 0.65),
        "mouthLowerDown*": (0.1, 0.5), "jawOpen": (0.03, 0.2), "mouthStretch*": (0.0, 0.2),
    },
    "laugh": {
        "mouthSmile*": (0.6, 1.0), "cheekSquint*": (0.4, 1.0), "mouthUpperUp*": (0.2, 0.6),
        "mouthLowerDown*": (0.2, 0.6), "jawOpen": (0.2, 0.6),
    },
    "talk": {
        "jawOpen": (0.05, 0.4), "mouthLowerDown*": (0.0, 0.4), "mouthUpperUp*": (0.0, 0.3),
        "mouthFunnel": (0.0, 0.5), "mouthPucker": (0.0, 0.4), "mouthStretch*": (0.0, 0.25),
    },
    "closed lips": {
        "mouthPress*": (0.1, 0.7), "mouthRollLower": (0.0, 0.6), "mouthRollUpper": (0.0, 0.5),
        "mouthShrugLower": (0.0, 0.3),
    },
    "frown": {
        "mouthFrown*": (0.2, 0.8), "mouthShrugLower": (0.1, 0.6), "mouthPress*": (0.0, 0.4),
    },
    "pucker": {"mouthPucker": (0.3, 1.0), "mouthFunnel": (0.0, 0.3)},
    "surprise": {"jawOpen": (0.15, 0.7), "mouthFunnel": (0.0, 0.4)},
    "disgust": {
        "noseSneer*": (0.3, 0.9), "mouthUpperUp*": (0.1, 0.6), "mouthFrown*": (0.0, 0.5),
    },
    "yawn": {"jawOpen": (0.6, 1.0), "mouthStretch*": (0.0, 0.3)},
    "puff": {"cheekPuff": (0.3, 1.0), "mouthPress*": (0.1, 0.4)},
    "tongue": {"tongueOut": (0.4, 1.0), "jawOpen": (0.2, 0.5)},
    "grimace": {},
}  # fmt: skip
_MOUTH_PROBABILITIES: dict[str, float] = {
    "rest": 0.14, "smile": 0.18, "open smile": 0.16, "laugh": 0.08, "talk": 0.15,
    "closed lips": 0.05, "frown": 0.03, "pucker": 0.03, "surprise": 0.04, "disgust": 0.03,
    "yawn": 0.02, "puff": 0.02, "tongue": 0.02, "grimace": 0.05,
}  # fmt: skip
_BROWS: dict[str, dict[str, tuple[float, float]]] = {
    "rest": {},
    "raised": {"browInnerUp": (0.2, 0.9), "browOuterUp*": (0.2, 0.9)},
    "worried": {"browInnerUp": (0.4, 1.0), "browDown*": (0.0, 0.3)},
    "angry": {"browDown*": (0.3, 1.0), "noseSneer*": (0.0, 0.3)},
}
_BROW_PROBABILITIES = {"rest": 0.62, "raised": 0.24, "worried": 0.07, "angry": 0.07}
# Brows that belong to some mouths.
_BROWS_OF = {"surprise": "raised", "disgust": "angry"}
# One to three of these, each side by its own weight, make a grimace.
_GRIMACES = (
    "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthUpperUp",
    "mouthLowerDown", "noseSneer", "cheekSquint", "browDown", "browOuterUp",
)  # fmt: skip
# Asymmetric shapes; they are used alone and with small weights.
_SIDEWAYS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight", "jawForward")

EYE_LOOK_RADIANS = 0.5
"""Rotation of an eyeball at which its eyeLook* shape has weight 1."""


def sample_expression(rng: np.random.Generator, *, neutral: float) -> np.ndarray:
    """Return 52 random ARKit weights in [0, 1] of one face; those of the gaze are zero.

    Args:
        rng: generator of random numbers.
        neutral: probability of a face with almost no expression.
    """
    weights = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    at_rest = rng.random() < neutral
    if at_rest:
        trace = rng.integers(0, len(weights), 3)
        weights[trace] = rng.uniform(0, 0.12, 3)
        weights[[_INDEX["jawOpen"], _INDEX["tongueOut"]]] = 0
    else:
        mouth = rng.choice(list(_MOUTH_PROBABILITIES), p=list(_MOUTH_PROBABILITIES.values()))
        _apply(weights, _MOUTHS[mouth], rng)
        if mouth == "grimace":
            for name in rng.choice(_GRIMACES, rng.integers(1, 4), replace=False):
                for side in ("Left", "Right"):
                    weights[_INDEX[f"{name}{side}"]] = rng.uniform(0, 1)
        brows = _BROWS_OF.get(mouth) or rng.choice(
            list(_BROW_PROBABILITIES), p=list(_BROW_PROBABILITIES.values())
        )
        _apply(weights, _BROWS[brows], rng)
        if rng.random() < 0.1:
            weights[_INDEX[str(rng.choice(_SIDEWAYS))]] = rng.uniform(0.1, 0.5)
    _set_lids(weights, rng)
    _apply_habits(weights, rng)
    return weights


def _apply(
    weights: np.ndarray, shapes: dict[str, tuple[float, float]], rng: np.random.Generator
) -> None:
    """Set shapes with a common strength that varies a little by shape and side."""
    strength = rng.random()
    lean = 0.12 * rng.standard_normal() * (4.0 if rng.random() < 0.2 else 1.0)
    for name, (low, high) in shapes.items():
        amount = low + (high - low) * np.clip(strength + 0.25 * rng.standard_normal(), 0, 1)
        sides = ((name, 0.0),)
        if name.endswith("*"):
            sides = ((name[:-1] + "Left", 1.0), (name[:-1] + "Right", -1.0))
        for side, sign in sides:
            weight = amount * (1 + sign * lean)
            weights[_INDEX[side]] = np.clip(max(weights[_INDEX[side]], weight), 0, 1)


def _set_lids(weights: np.ndarray, rng: np.random.Generator) -> None:
    """Open, narrow or close the eyes, consistent with the rest of the face."""
    cheek = weights[[_INDEX["cheekSquintLeft"], _INDEX["cheekSquintRight"]]]
    squint = np.clip(0.4 * cheek + 0.1 * abs(rng.standard_normal()), 0, 1)
    blink = np.full(2, 0.08 * rng.random() + 0.1 * (rng.random() < 0.2))
    kind = rng.random()
    # A third of all faces have lids that are closed to some degree: far more than in photos, because
    # a network must see closed eyes often to believe them.
    if kind < 0.1:
        blink[:] = rng.uniform(0.9, 1.0)
    elif kind < 0.26:
        blink[:] = np.clip(rng.uniform(0.2, 0.9) + 0.05 * rng.standard_normal(2), 0, 1)
    elif kind < 0.33:
        blink[rng.integers(2)] = rng.uniform(0.4, 1.0)
    elif kind < 0.39 and weights[_INDEX["browInnerUp"]] > 0.3:
        weights[[_INDEX["eyeWideLeft"], _INDEX["eyeWideRight"]]] = rng.uniform(0.3, 1.0)
        squint[:] = 0
    for side, name in enumerate(("Left", "Right")):
        weights[_INDEX[f"eyeSquint{name}"]] = squint[side]
        weights[_INDEX[f"eyeBlink{name}"]] = blink[side]


# Mean and standard deviation in 240 fitted portraits, independent of the mouth: eyes are wider,
# brows higher and upper lips thinner than on the neutral head.
_HABITS = {
    "eyeWide*": (0.22, 0.13), "browOuterUp*": (0.15, 0.13), "browInnerUp": (0.11, 0.12),
    "mouthRollUpper": (0.2, 0.15),
}  # fmt: skip


def _apply_habits(weights: np.ndarray, rng: np.random.Generator) -> None:
    """Add the usual state of faces to parts that no other shape moves."""
    for name, (mean, spread) in _HABITS.items():
        amount = np.clip(rng.normal(mean, spread), 0, 0.6)
        for side in ("Left", "Right") if name.endswith("*") else ("",):
            shape = name.removesuffix("*") + side
            against = [weights[_INDEX[other + side]] for other in _AGAINST[name]]
            free = 1 - max(against)
            weights[_INDEX[shape]] = max(weights[_INDEX[shape]], amount * max(free, 0))


_AGAINST = {
    "eyeWide*": ("eyeBlink", "eyeSquint"),
    "browOuterUp*": ("browDown",),
    "browInnerUp": ("browDownLeft", "browDownRight"),
    "mouthRollUpper": ("mouthFunnel", "mouthPucker", "tongueOut"),
}


def sample_gaze(
    rng: np.random.Generator, camera_in_head: np.ndarray, *, camera_gaze: float
) -> np.ndarray:
    """Return a random gaze: (left, right) x (yaw, pitch) of the eyeballs in radians.

    Args:
        rng: generator of random numbers.
        camera_in_head: position of the camera, head space, metres.
        camera_gaze: probability that the eyes turn to the camera, as far as eyes can.
    """
    # If the head is turned far away from the camera, the gaze is rarely directed at it.
    aside = np.arctan2(abs(camera_in_head[0]), camera_in_head[2])
    if rng.random() < camera_gaze * np.clip((1.0 - aside) / 0.5, 0.1, 1):
        target = camera_in_head + 0.02 * rng.standard_normal(3)
    else:
        yaw, pitch = 0.22 * rng.standard_normal(), 0.14 * rng.standard_normal() - 0.05
        target = np.array([np.tan(yaw), np.tan(pitch), 1.0]) * rng.uniform(0.4, 4.0)
    gaze = np.empty((2, 2), np.float32)
    for side, x in enumerate((0.0315, -0.0315)):
        offset = target - np.array([x, 0.0, 0.0])
        gaze[side, 0] = np.arctan2(offset[0], max(offset[2], 1e-3))
        gaze[side, 1] = np.arctan2(offset[1], max(np.hypot(offset[0], offset[2]), 1e-3))
    # Both eyes move together: clip the pair, not each eye.
    mean = gaze.mean(0)
    gaze += np.clip(mean, (-0.5, -0.4), (0.5, 0.3)) - mean
    return gaze


def follow_gaze(weights: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Return the expression with the eyeLook* weights that belong to a gaze (2,2)."""
    weights = weights.copy()
    for side, (name, outward) in enumerate((("Left", 1.0), ("Right", -1.0))):
        across, up = gaze[side, 0] * outward / EYE_LOOK_RADIANS, gaze[side, 1] / EYE_LOOK_RADIANS
        for direction, amount in (("Out", across), ("In", -across), ("Up", up), ("Down", -up)):
            weights[_INDEX[f"eyeLook{direction}{name}"]] = np.clip(amount, 0, 1)
    return weights
