"""Photos with known faces: crops of people, pasted into a larger, blurred scene."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from lifemask.evaluation.datasets import Aflw21Crop

LONG_SIDES = (400.0, 1280.0)
"""Shortest and longest long side of a scene, pixels."""

NEIGHBOURS = (0.3, 0.4, 0.3)
"""Probabilities of no, one and two people beside the person of the scene."""

_ROOM = 1.5
"""Long side of a scene, at least, in units of the pasted crop's side."""

_SOFT_EDGE = 0.08
"""Width of the edge over which a crop fades into the scene, in units of the crop's side."""

_BLACK = 10
"""Rows and columns at the edge of a crop up to this value lie outside of its photo."""


@dataclass(frozen=True)
class Scene:
    """A photo that shows a person whose landmarks are known."""

    pixels: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    landmarks: Float[np.ndarray, "21 2"]
    """AFLW's points of the person, pixels; NaN where not annotated."""
    neighbours: tuple[Float[np.ndarray, "21 2"], ...]
    """The same points of the other people."""


def face_extent(landmarks: Float[np.ndarray, "21 2"]) -> float:
    """Return the larger side of the box of the annotated points, pixels."""
    return float((np.nanmax(landmarks, 0) - np.nanmin(landmarks, 0)).max())


def draw_scene(
    person: Aflw21Crop,
    others: list[Aflw21Crop],
    generator: np.random.Generator,
    *,
    face_pixels: float,
    turn_radians: float,
) -> Scene:
    """Return a scene with the person, and with up to two of the others beside it.

    Nobody covers the middle of another crop. The background is a part of another crop, blurred
    until nothing can be recognised.

    Args:
        person: the person to find.
        others: people to draw neighbours and backgrounds from.
        generator: decides everything else.
        face_pixels: extent of the person's face in the scene.
        turn_radians: rotation of the person, clockwise.
    """
    side = person.pixels.shape[0] * face_pixels / face_extent(person.landmarks)
    shortest = max(LONG_SIDES[0], _ROOM * side)
    long = math.exp(generator.uniform(*np.log([shortest, max(LONG_SIDES[1], 1.2 * shortest)])))
    short = max(long * generator.uniform(0.6, 1.0), 1.2 * side)
    width, height = (round(v) for v in generator.permutation([long, short]))
    background = others[generator.integers(len(others))]
    canvas = _background(background, (width, height), generator)
    middle = [_position(n, side, generator) for n in (width, height)]
    placed = [(np.array(middle), side)]
    neighbours: list[Float[np.ndarray, "21 2"]] = []
    for _ in range(generator.choice(3, p=NEIGHBOURS)):
        other = others[generator.integers(len(others))]
        size = min(side * math.exp(generator.uniform(-0.7, 0.7)), 0.8 * min(width, height))
        turn = generator.normal() * math.radians(10.0)
        # A full scene has no place for a neighbour: after some tries it stays without.
        for _ in range(20):
            place = np.array([_position(n, size, generator) for n in (width, height)])
            if all(np.abs(place - p).max() > 0.45 * (size + s) for p, s in placed):
                placed.append((place, size))
                neighbours.append(_paste(canvas, other, place, size, turn))
                break
    landmarks = _paste(canvas, person, placed[0][0], side, turn_radians)
    noise = 2.0 * generator.standard_normal((height, width, 3), np.float32)
    pixels = np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8)
    return Scene(pixels, landmarks, tuple(neighbours))


def _position(length: int, side: float, generator: np.random.Generator) -> float:
    """Return a coordinate at which most of a crop is inside the scene."""
    low, high = sorted((0.45 * side, length - 0.45 * side))
    return float(generator.uniform(low, high))


def _background(
    crop: Aflw21Crop, size: tuple[int, int], generator: np.random.Generator
) -> Image.Image:
    part = crop.pixels.shape[0] // 2
    x, y = generator.integers(0, part, 2)
    image = Image.fromarray(crop.pixels).crop((x, y, x + part, y + part))
    image = image.filter(ImageFilter.GaussianBlur(part / 8))
    return image.resize(size, Image.Resampling.BICUBIC)


def _paste(
    canvas: Image.Image, crop: Aflw21Crop, middle: np.ndarray, side: float, turn_radians: float
) -> Float[np.ndarray, "21 2"]:
    """Draw a crop, turned clockwise about its middle, into the canvas; return where its points are.

    Args:
        canvas: is changed.
        crop: the person.
        middle: place of the crop's middle, pixels.
        side: of the whole crop in the canvas, pixels.
        turn_radians: rotation.
    """
    whole = crop.pixels.shape[0]
    scale = side / whole
    mask = _mask(crop)
    image = Image.fromarray(crop.pixels)
    if scale < 1.0:
        # PIL's affine transform does not average; small copies are averaged before.
        small = max(1, round(side))
        image, mask = (i.resize((small, small), Image.Resampling.LANCZOS) for i in (image, mask))
    step = image.width / side
    reach = math.ceil(side * 0.75)
    left, top = (int(v) - reach for v in middle)
    cosine, sine = math.cos(turn_radians), math.sin(turn_radians)
    # The crop's point of the pixel (x, y) of the part: R^T ((x, y) + corner - middle), then scaled.
    inverse = np.array([[cosine, sine], [-sine, cosine]]) * step
    offset = inverse @ (np.array([left, top]) - middle) + image.width / 2
    back = (*inverse[0], offset[0], *inverse[1], offset[1])
    size, affine = (2 * reach, 2 * reach), Image.Transform.AFFINE
    turned = image.transform(size, affine, back, Image.Resampling.BICUBIC)
    canvas.paste(turned, (left, top), mask.transform(size, affine, back, Image.Resampling.BILINEAR))
    forward = np.array([[cosine, -sine], [sine, cosine]]) * scale
    return (crop.landmarks - whole / 2) @ forward.T + middle


def _mask(crop: Aflw21Crop) -> Image.Image:
    """Return the opacity of a crop: 0 outside of its photo and at its edge, 255 inside."""
    bright = crop.pixels.max(-1) > _BLACK
    size = crop.pixels.shape[0]
    distances: list[np.ndarray] = []
    for axis in (1, 0):
        inside = np.flatnonzero(bright.mean(axis) > 0.02)
        first, last = (inside[0], inside[-1]) if len(inside) else (0, size - 1)
        steps = np.arange(size)
        distances.append(np.minimum(steps - first, last - steps))
    distance = np.minimum(distances[0][:, None], distances[1][None])
    opacity = np.clip(distance / (_SOFT_EDGE * size), 0.0, 1.0)
    return Image.fromarray((255 * opacity).astype(np.uint8))
