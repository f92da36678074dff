"""Sets of test faces, drawn once and kept: stills, clips of a person, relit people."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lifemask.evaluation.cache import write_arrays
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.evaluation.ict_faces.kept_photos import DrawnFaces, KeptPhoto, read_png, write_png
from lifemask.evaluation.ict_faces.light import TestLight, random_light
from lifemask.evaluation.ict_faces.people import random_person, random_shot
from lifemask.evaluation.ict_faces.photo import FaceTruth, photograph, photograph_lit

Array = np.ndarray

STILLS, CLIPS, FRAMES, RELIT, LIGHTS = 300, 60, 4, 60, 3
"""Numbers of stills, clips, frames per clip, relit people, and unseen lights per person."""

YAW_BINS_DEGREES = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))
"""Consecutive stills alternate between these bins, so the first few are balanced too."""

_HALF = ("normals", "albedo", "albedo_points")
_YAW = "yaw_degrees"
_STILL, _CLIP, _RELIT = range(3)


@dataclass(frozen=True)
class TestFace(KeptPhoto):
    """One test photo on disk."""

    __test__ = False  # Not a test class, whatever its name begins with.

    def truth(self) -> FaceTruth:
        """Return the photo's truth."""
        with np.load(self.folder / f"{self.key}.npz", allow_pickle=False) as arrays:
            values = {f.name: arrays[f.name] for f in fields(FaceTruth) if f.name != _YAW}
            yaw = float(arrays[_YAW])
        for name in _HALF:
            values[name] = values[name].astype(np.float32)
        return FaceTruth(yaw_degrees=yaw, **values)


@dataclass(frozen=True)
class RelitFace(TestFace):
    """A test photo, and the same shot under lights that no program gets."""

    def relit(self) -> list[tuple[TestLight, UInt8[Array, "H W 3"]]]:
        """Return the lights, each with its sRGB photo of a perfect camera."""
        with np.load(self.folder / f"{self.key}_lights.npz", allow_pickle=False) as arrays:
            parts = zip(arrays["environment"], arrays["direction"], arrays["lamp"], strict=True)
            lights = [TestLight(*part) for part in parts]
        return [
            (light, read_png(self.folder / f"{self.key}_light{index}.png"))
            for index, light in enumerate(lights)
        ]


class TestFaces(DrawnFaces):
    """Draws the three sets of `synthetic`."""

    __test__ = False  # Not a test class, whatever its name begins with.

    def __init__(self, model: Path, *, seed: int, cache: Path | None = None) -> None:
        """Use ICT-FaceKit Light at `model`; keep the photos under the cache folder."""
        super().__init__(model, "ict_faces", code_fingerprint(__name__), seed=seed, cache=cache)

    def stills(
        self, count: int = STILLS, progress: Callable[[int, int], None] | None = None
    ) -> list[TestFace]:
        """Return photos of different people; consecutive photos alternate between the yaw bins."""
        faces = [TestFace(f"still_{i:03d}", self.folder) for i in range(count)]

        def draw(index: int) -> None:
            generator = np.random.default_rng([self.seed, _STILL, index])
            person = random_person(self.head, generator)
            bin_range = YAW_BINS_DEGREES[index % len(YAW_BINS_DEGREES)]
            shot = random_shot(self.head, person, generator, yaw_range_degrees=bin_range)
            self.write(faces[index].key, *photograph(self.head, person, shot), half=_HALF)

        self.complete([face.key for face in faces], draw, progress)
        return faces

    def clips(
        self, count: int = CLIPS, progress: Callable[[int, int], None] | None = None
    ) -> list[list[TestFace]]:
        """Return clips, each with frames of one person: pose, expression, camera and light differ."""
        clips = [
            [TestFace(f"clip_{i:02d}_{frame}", self.folder) for frame in range(FRAMES)]
            for i in range(count)
        ]

        def draw(index: int) -> None:
            generator = np.random.default_rng([self.seed, _CLIP, index])
            person = random_person(self.head, generator)
            for face in clips[index]:
                shot = random_shot(self.head, person, generator, yaw_range_degrees=(0, 60))
                self.write(face.key, *photograph(self.head, person, shot), half=_HALF)

        self.complete([clip[-1].key for clip in clips], draw, progress)
        return clips

    def relit(
        self, count: int = RELIT, progress: Callable[[int, int], None] | None = None
    ) -> list[RelitFace]:
        """Return photos of different people, each with three more lights."""
        faces = [RelitFace(f"relit_{i:02d}", self.folder) for i in range(count)]

        def draw(index: int) -> None:
            generator = np.random.default_rng([self.seed, _RELIT, index])
            person = random_person(self.head, generator)
            shot = random_shot(self.head, person, generator, yaw_range_degrees=(0, 50))
            key = faces[index].key
            lights = [
                random_light(generator, lamp_share=generator.uniform(0.3, 0.7))
                for _ in range(LIGHTS)
            ]
            for number, light in enumerate(lights):
                pixels = photograph_lit(self.head, person, shot, light)
                write_png(self.folder / f"{key}_light{number}.png", pixels)
            write_arrays(
                self.folder / f"{key}_lights.npz",
                {
                    "environment": np.stack([light.environment for light in lights]),
                    "direction": np.stack([light.direction for light in lights]),
                    "lamp": np.stack([light.lamp for light in lights]),
                },
            )
            self.write(key, *photograph(self.head, person, shot), half=_HALF)

        self.complete([face.key for face in faces], draw, progress)
        return faces
