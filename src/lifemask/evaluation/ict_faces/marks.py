"""Marks on the skin that have colour but no relief: moles, freckles, stubble, make-up, hairs."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

from lifemask.evaluation.ict_faces.chart import (
    band_noise,
    cell_places,
    chart_landmarks,
    distance_to,
    spots,
)
from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.ict_faces.skin import HAEMOGLOBIN, MELANIN

Array = np.ndarray

Mark = Literal["moles", "freckles", "stubble", "make-up", "hairs", "blemishes"]

MARKS: tuple[Mark, ...] = ("moles", "freckles", "stubble", "make-up", "hairs", "blemishes")
"""All kinds."""

_SOOT = np.array([1.0, 0.95, 0.85])
"""Log decrease (R, G, B) by one unit of dark hair or paint."""


def draw_marks(
    head: IctHead, kinds: tuple[Mark, ...], generator: np.random.Generator
) -> Float[Array, "3 R C"]:
    """Return the decrease of the log reflectance (R, G, B) by marks, in the face's chart."""
    landmarks = chart_landmarks(head)
    total = np.zeros((3, *cell_places().shape[:2]))
    for kind in kinds:
        total += _DRAWN[kind](landmarks, generator)
    return total


def _pigment(amount: Float[Array, "R C"], colour: Float[Array, "3"]) -> Float[Array, "3 R C"]:
    return colour[:, None, None] * amount


def _near(places: Array, middle: Array, radius: float) -> Float[Array, "R C"]:
    return np.exp(-((places - middle) ** 2).sum(-1) / radius**2)


def _scattered(count: int, generator: np.random.Generator) -> Float[Array, "N 2"]:
    return generator.uniform([-0.085, -0.115], [0.085, 0.065], (count, 2))


def _moles(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    amount = np.zeros(cell_places().shape[:2])
    for place in _scattered(int(generator.integers(10, 26)), generator):
        radius = generator.uniform(0.0006, 0.0024)
        distance = distance_to(
            np.stack([place, place + generator.normal(0, 0.3 * radius, 2)]), 0.005
        )
        amount += generator.uniform(0.5, 1.4) * np.clip(1.6 - 1.2 * distance / radius, 0, 1)
    return _pigment(amount, MELANIN)


def _freckles(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    places = cell_places()
    amount = np.zeros(places.shape[:2])
    for sigma in (0.0004, 0.0006, 0.0009):
        where = _scattered(int(generator.integers(150, 700)), generator)
        amount += spots(where, generator.uniform(0.1, 0.55, len(where)), sigma)
    middles = [landmarks[29], landmarks[[2, 31, 36]].mean(0), landmarks[[14, 35, 45]].mean(0)]
    dense = np.clip(np.sum([_near(places, m, 0.03) for m in middles], axis=0), 0.12, 1)
    return _pigment(np.minimum(amount, 1.0) * dense, MELANIN)


def _stubble(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    places = cell_places()
    out, up = np.abs(places[..., 0]), places[..., 1]
    limit = np.interp(
        out, [0, 0.022, 0.04, 0.06, 0.09, 0.12], landmarks[33, 1] - np.array(
            [0.006, 0.008, 0.022, 0.028, 0.0, -0.05]
        ),
    )  # fmt: skip
    beard = np.clip((limit - up) / 0.008, 0, 1)
    roots = _scattered(9000, generator)
    lengths = generator.uniform(0.0003, 0.001)
    hairs = np.zeros(places.shape[:2])
    for share in np.linspace(0, 1, 4):
        # Short strokes that point down, drawn as four dots each.
        moved = roots + share * lengths * np.array([0.0, -1.0]) * np.ones((len(roots), 1))
        hairs += spots(moved, np.full(len(roots), generator.uniform(0.5, 1.2)), 0.00014)
    shade = generator.uniform(0.1, 0.35)
    amount = (np.minimum(hairs, 1.6) * generator.uniform(0.5, 1.0) + shade) * beard
    return _pigment(amount, _SOOT)


def _make_up(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    places = cell_places()
    total = np.zeros((3, *places.shape[:2]))
    contour = generator.uniform(0.15, 0.5)
    for side, cheek, ear in ((1.0, [14, 35, 45], 15), (-1.0, [2, 31, 36], 1)):
        middle = landmarks[cheek].mean(0)
        total += _pigment(generator.uniform(0.3, 1.0) * _near(places, middle, 0.016), HAEMOGLOBIN)
        # A dark band under the cheekbone and one beside the nose imitate shape.
        bone = np.stack([landmarks[ear], middle]) + np.array([[0, -0.018], [0.004 * side, -0.010]])
        nose = landmarks[[27, 30]] + np.array([0.009 * side, 0])
        for line, wide in ((bone, 0.007), (nose, 0.0035)):
            shade = np.exp(-((distance_to(line, 4 * wide) / wide) ** 2))
            total += _pigment(contour * shade, MELANIN)
    patchy = 0.04 * band_noise(generator, 0.004)
    return total + _pigment(patchy, _SOOT)


def _hairs(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    amount = np.zeros(cell_places().shape[:2])
    for _ in range(int(generator.integers(6, 14))):
        start = np.array([generator.uniform(-0.05, 0.05), 0.072])
        turn = np.radians(generator.uniform(-60, 60))
        length, bend = generator.uniform(0.02, 0.09), generator.normal(0, 12)
        t = np.linspace(0, 1, 12)[:, None]
        way = np.concatenate([np.sin(turn + bend * 0.05 * t), -np.cos(turn + bend * 0.05 * t)], 1)
        wide = generator.uniform(0.00012, 0.0003)
        distance = distance_to(start + length * t * way, 0.001)
        amount = np.maximum(amount, generator.uniform(0.5, 1.6) * np.exp(-((distance / wide) ** 2)))
    return _pigment(amount, _SOOT)


def _blemishes(landmarks: Array, generator: np.random.Generator) -> Float[Array, "3 R C"]:
    amount = np.zeros(cell_places().shape[:2])
    for place in _scattered(int(generator.integers(15, 50)), generator):
        radius = generator.uniform(0.0007, 0.003)
        distance = distance_to(
            np.stack([place, place + generator.normal(0, 0.5 * radius, 2)]), 0.008
        )
        amount += generator.uniform(0.3, 1.2) * np.exp(-((distance / radius) ** 2))
    mottled = 0.12 * np.maximum(band_noise(generator, generator.uniform(0.002, 0.005)), -1)
    return _pigment(amount + mottled, HAEMOGLOBIN)


_DRAWN: dict[Mark, Callable[[Array, np.random.Generator], Float[Array, "3 R C"]]] = {
    "moles": _moles,
    "freckles": _freckles,
    "stubble": _stubble,
    "make-up": _make_up,
    "hairs": _hairs,
    "blemishes": _blemishes,
}
