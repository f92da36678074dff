"""Backgrounds of synthetic faces: out-of-focus walls, rooms, lights and greenery."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.stored_fits import FitStore
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.rasterization import rasterize

_CANVAS = 48


_ROOM = 72
"""Pixels along each side of photos that are reduced before their heads are removed."""


_WALL = 0.6
"""Largest mean of a background; white paint under the head's light has 0.8."""


class Surroundings:
    """Out-of-focus backgrounds of fitted photos, with people and their hair removed."""

    def __init__(self, fits: FitStore, model: MorphableModel) -> None:
        """Set up with stored fits and their head model.

        Raises:
            ValueError: there are no fits.
        """
        if len(fits) == 0:
            raise ValueError("The store of fits is empty. Make one with tools/fit_photos.py.")
        self._fits, self._model = fits, model
        self._rooms: dict[int, Tensor] = {}

    @torch.no_grad()
    def sample(self, rng: np.random.Generator) -> Float[np.ndarray, "3 48 48"]:
        """Return a part of one photo's background, in the form of `sample_background`."""
        room = self._room(int(rng.integers(len(self._fits))))
        side = int(rng.integers(_ROOM // 2, _ROOM + 1))
        left, top = (int(rng.integers(0, _ROOM - side + 1)) for _ in range(2))
        part = room[:, top : top + side, left : left + side]
        if rng.random() < 0.5:
            part = part.flip(-1)
        size = (_CANVAS, _CANVAS)
        part = F.interpolate(part[None], size, mode="bilinear", antialias=True)
        gain = np.exp(0.3 * rng.standard_normal() + 0.05 * rng.standard_normal((3, 1, 1)))
        seen = part[0].numpy() * gain
        # A white wall in a photo must not become brighter than white paint under another light.
        return np.clip(seen * _WALL / max(seen.mean(), _WALL), 0, 1.5).astype(np.float32)

    def _room(self, number: int) -> Float[Tensor, "3 72 72"]:
        if number not in self._rooms:
            fit = self._fits[number]
            size = (_ROOM, _ROOM)
            vertices = self._model.vertices(fit.face.coefficients.to(self._model.mean.device)).cpu()
            points = fit.face.camera.project(vertices)
            points = points * points.new_tensor([*[_ROOM / fit.photo.shape[-1]] * 2, 1.0])
            head = rasterize(points, self._model.triangles.cpu(), size).mask.float()
            shown = fit.front if fit.person is None else torch.maximum(fit.front, fit.person)
            front = F.interpolate(shown[None, None], size, mode="area")[0, 0]
            taken = torch.maximum(head, (front > 0.2).float())
            taken = F.max_pool2d(taken[None], 7, 1, 3)[0]
            photo = F.interpolate(fit.photo[None], size, mode="area")[0]
            self._rooms[number] = outward(photo, 1 - taken)
        return self._rooms[number]


def sample_background(rng: np.random.Generator) -> Float[np.ndarray, "3 48 48"]:
    """Return a small linear RGB picture for `enlarge`; its mean brightness varies widely."""
    kind = rng.choice(
        ["plain", "studio", "room", "lights", "nature"], p=[0.2, 0.25, 0.3, 0.1, 0.15]
    )
    rows, columns = np.mgrid[0:_CANVAS, 0:_CANVAS] / (_CANVAS - 1.0)
    base = _colour(rng)
    canvas = np.ones((3, _CANVAS, _CANVAS)) * base[:, None, None]
    if kind == "studio":
        centre = rng.uniform(0.2, 0.8, 2)
        distance = np.hypot(columns - centre[0], rows - centre[1])
        canvas *= np.exp(-rng.uniform(0.3, 2.5) * distance)
    elif kind == "room":
        for _ in range(rng.integers(3, 12)):
            left, top = rng.uniform(-0.2, 1.0, 2)
            width, height = rng.uniform(0.05, 0.7, 2)
            soft = rng.uniform(0.01, 0.08)
            inside = _edge((columns - left) / soft) * _edge((left + width - columns) / soft)
            inside = inside * _edge((rows - top) / soft) * _edge((top + height - rows) / soft)
            canvas += inside * (_colour(rng)[:, None, None] - canvas)
    elif kind == "lights":
        canvas *= 0.3
        for _ in range(rng.integers(5, 30)):
            centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.12)
            disc = _edge((radius - np.hypot(columns - centre[0], rows - centre[1])) / 0.012)
            canvas += disc * _colour(rng)[:, None, None] * rng.uniform(0.5, 2.5)
    elif kind == "nature":
        green = np.array([0.12, 0.2, 0.06]) * np.exp(0.5 * rng.standard_normal())
        horizon = rng.uniform(0, 0.8)
        sky = np.array([0.45, 0.6, 0.85]) * rng.uniform(0.4, 1.2)
        share = _edge((horizon - rows) / rng.uniform(0.02, 0.3))
        canvas = green[:, None, None] * (1 - share) + sky[:, None, None] * share
    for cells, amount in ((4, 0.35), (10, 0.2), (24, 0.08)):
        strength = amount * rng.random() * (0.35 if kind in ("plain", "studio") else 1.3)
        noise = _smooth_noise(rng, cells)
        colour = rng.normal(1, 0.08, 3)
        canvas = canvas * np.exp(strength * noise[None] * colour[:, None, None])
    return np.clip(canvas, 0, 1.5).astype(np.float32)


def outward(values: Float[Tensor, "C H W"], known: Float[Tensor, "H W"]) -> Float[Tensor, "C H W"]:
    """Return values extended beyond the known part, by a pyramid of means from coarse to fine."""
    levels = [torch.cat([values * known, known[None]])]
    while min(levels[-1].shape[1:]) > 1:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True))
    filled = levels[-1][:-1] / levels[-1][-1:].clamp(min=1e-9)
    for level in levels[-2::-1]:
        size = (level.shape[1], level.shape[2])
        coarse = F.interpolate(filled[None], size, mode="bilinear")[0]
        share = level[-1:]
        filled = torch.where(share > 0, level[:-1] / share.clamp(min=1e-9), coarse)
    return filled


def enlarge(canvases: Float[Tensor, "N 3 h w"], size: int) -> Float[Tensor, "N 3 size size"]:
    """Return the canvases at full size; edges do not become sharper."""
    spread = _cubic(canvases.shape[-1], size).to(canvases)
    return (spread @ canvases @ spread.T).clamp(min=0)


@cache
def _cubic(count: int, size: int) -> Float[Tensor, "size count"]:
    """Return the matrix of enlargement by cubic splines; faster than `interpolate` on a CPU."""
    unit = torch.eye(count)[None, :, :, None]
    return F.interpolate(unit, (size, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Return linear RGB: mostly weak colours, often wood or shade, seldom bright."""
    brightness = np.exp(rng.normal(-1.5, 0.9))
    warmth = 0.5 * rng.standard_normal()
    dye = rng.standard_normal(3) * (0.4 if rng.random() < 0.15 else 0.08)
    return brightness * np.exp(np.array([0.5, 0.05, -0.55]) * warmth + dye)


def _edge(distance: np.ndarray) -> np.ndarray:
    return np.clip(distance + 0.5, 0, 1)


def _smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return a smooth field (48,48) of variance about one, from `cells` x `cells` random values."""
    coarse = rng.standard_normal((cells + 2, cells + 2))
    place = np.linspace(0.5, cells + 0.499, _CANVAS)
    first, share = place.astype(int), place % 1
    share = share * share * (3 - 2 * share)
    rows = coarse[first] * (1 - share[:, None]) + coarse[first + 1] * share[:, None]
    return rows[:, first] * (1 - share) + rows[:, first + 1] * share
