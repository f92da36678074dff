"""The heads of `synthetic_detail`, drawn once and kept: three of four have relief, all have marks."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.ict_faces.detail_photo import DetailTruth, photograph_detail
from lifemask.evaluation.ict_faces.kept_photos import DrawnFaces, KeptPhoto
from lifemask.evaluation.ict_faces.marks import MARKS, Mark, draw_marks
from lifemask.evaluation.ict_faces.people import random_person, random_shot
from lifemask.evaluation.ict_faces.relief import draw_relief

HEADS = 60
"""Number of heads."""

SMOOTH_EVERY = 4
"""Every fourth head has no relief."""

PHOTO_SIZE = 512
"""Pixels per side."""

_TEXELS = 1024
_DETAIL = 3
_HALF = ("normals", "normals_coarse", "albedo")


@dataclass(frozen=True)
class DetailFace(KeptPhoto):
    """One photo of the set on disk."""

    def truth(self) -> DetailTruth:
        """Return the photo's truth."""
        with np.load(self.folder / f"{self.key}.npz", allow_pickle=False) as arrays:
            values = {f.name: arrays[f.name] for f in fields(DetailTruth)}
        return DetailTruth(**values | {n: values[n].astype(np.float32) for n in _HALF})


class DetailFaces(DrawnFaces):
    """Draws the set from a seed and keeps it in a folder."""

    def __init__(self, model: Path, *, seed: int, cache: Path | None = None) -> None:
        """Use ICT-FaceKit Light at `model`; keep the photos under the cache folder."""
        version = code_fingerprint(__name__)
        super().__init__(model, "ict_detail", version, seed=seed, cache=cache)

    def faces(
        self, count: int = HEADS, progress: Callable[[int, int], None] | None = None
    ) -> list[DetailFace]:
        """Return photos of different people."""
        faces = [DetailFace(f"detail_{i:02d}", self.folder) for i in range(count)]

        def draw(index: int) -> None:
            generator = np.random.default_rng([self.seed, _DETAIL, index])
            person = random_person(self.head, generator, resolution=_TEXELS)
            shot = random_shot(
                self.head,
                person,
                generator,
                yaw_range_degrees=(0, 50),
                size=PHOTO_SIZE,
                lamp_share=generator.uniform(0.25, 0.8),
            )
            smooth = index % SMOOTH_EVERY == SMOOTH_EVERY - 1
            marks = draw_marks(self.head, _kinds(index, smooth, generator), generator)
            heights = None if smooth else draw_relief(self.head, shot.expression, generator)
            pixels, truth = photograph_detail(self.head, person, shot, heights=heights, marks=marks)
            self.write(faces[index].key, pixels, truth, half=_HALF)

        self.complete([face.key for face in faces], draw, progress)
        return faces


def _kinds(index: int, smooth: bool, generator: np.random.Generator) -> tuple[Mark, ...]:
    """Return the marks of a head: by chance with relief, two kinds in turn without."""
    if not smooth:
        return tuple(mark for mark in MARKS if generator.random() < 0.25)
    turn = index // SMOOTH_EVERY
    shift = 1 + turn // len(MARKS)
    return MARKS[turn % len(MARKS)], MARKS[(turn + shift) % len(MARKS)]
