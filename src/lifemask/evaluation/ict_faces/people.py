"""Random test people and shots: identities, expressions, poses."""

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.ict_faces.light import random_light
from lifemask.evaluation.ict_faces.shots import PHOTO_SIZE, Person, Shot, look_at_face
from lifemask.evaluation.ict_faces.skin import RESOLUTION, random_appearance

Array = np.ndarray

# Usual expressions: the ICT weights that are used together, for both sides.
_MOODS: tuple[dict[str, float], ...] = (
    {},
    {"mouthSmile": 0.6, "cheekSquint": 0.4, "eyeSquint": 0.2},
    {"mouthSmile": 0.9, "jawOpen": 0.25, "cheekSquint": 0.6, "mouthUpperUp": 0.3},
    {"jawOpen": 0.6, "browInnerUp": 0.5, "browOuterUp": 0.6, "eyeWide": 0.6},
    {"browDown": 0.8, "noseSneer": 0.4, "mouthPress": 0.4, "eyeSquint": 0.4},
    {"mouthFrown": 0.7, "browInnerUp": 0.6, "mouthShrugLower": 0.3},
    {"mouthPucker": 0.7},
    {"mouthFunnel": 0.5, "jawOpen": 0.2},
    {"jawOpen": 0.35, "mouthLowerDown": 0.3},
    {"eyeBlink": 1.0},
)


def random_person(
    head: IctHead, generator: np.random.Generator, *, resolution: int = RESOLUTION
) -> Person:
    """Return a person with normally distributed identity coefficients and random colours.

    Args:
        head: the head that all people share.
        generator: source of randomness.
        resolution: texels along each side of the texture.
    """
    identity = generator.normal(0, 0.8, len(head.model.identity_basis)).clip(-2.5, 2.5)
    return Person(identity, random_appearance(head, generator, resolution=resolution))


def random_expression(head: IctHead, generator: np.random.Generator) -> Float[Array, "E"]:
    """Return a usual expression of random strength, slightly asymmetric, plus weak movements."""
    names = head.model.expression_names
    weights = np.zeros(len(names))
    mood = _MOODS[generator.choice(len(_MOODS), p=_chances())]
    strength = generator.uniform(0.3, 1.0)
    for index, name in enumerate(names):
        wanted = mood.get(name.removesuffix("_L").removesuffix("_R"), 0.0)
        weights[index] = strength * wanted * generator.uniform(0.8, 1.2)
    for index in generator.choice(len(names), 4, replace=False):
        if not names[index].startswith(("eyeLook", "jaw", "mouthClose")):
            weights[index] += generator.uniform(0, 0.25)
    # Partly closed eyes; a complete blink is rare.
    if "eyeBlink" not in mood and generator.random() < 0.4:
        lids = [i for i, name in enumerate(names) if name.startswith("eyeBlink")]
        weights[lids] = generator.uniform(0, 0.25)
    return weights.clip(0, 1)


def _chances() -> Float[Array, "M"]:
    weights = np.array([4.0, *[1.0] * (len(_MOODS) - 2), 0.4])
    return weights / weights.sum()


def random_shot(
    head: IctHead,
    person: Person,
    generator: np.random.Generator,
    *,
    yaw_range_degrees: tuple[float, float],
    size: int = PHOTO_SIZE,
    lamp_share: float | None = None,
) -> Shot:
    """Return a random shot: expression, gaze, pose, camera and light.

    Args:
        head: the model of the person.
        person: the person in the photo.
        generator: source of randomness.
        yaw_range_degrees: range of absolute yaw, uniform; the side is random.
        size: pixels per side of the photo.
        lamp_share: the lamp's share of the light, 0 to 1; None: random.
    """
    expression = random_expression(head, generator)
    gaze = generator.normal(0, [0.12, 0.08]).clip(-0.35, 0.35)
    yaw = generator.uniform(*yaw_range_degrees) * generator.choice([-1, 1])
    camera = look_at_face(head, person, expression, generator, yaw_degrees=yaw, size=size)
    light = random_light(generator, lamp_share=lamp_share)
    return Shot(expression, gaze, camera, yaw, light, int(generator.integers(2**31)))
