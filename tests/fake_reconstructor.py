"""A reconstructor without networks for tests of the command; other processes can import it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lifemask.io.images import Photo


@dataclass
class FakeFace:
    """Replaces a reconstruction: one face, in the colour of the photo."""

    colour: list[int]
    confidence: float = 0.9
    warnings: tuple[str, ...] = ()

    def save(self, path: Path, *, neutral: bool, detail: str) -> None:
        path.write_text(f"{'neutral ' * neutral}{'fine ' * (detail == 'mesh')}mesh {self.colour}")

    def save_textures(self, folder: Path, stem: str) -> list[Path]:
        (folder / f"{stem}_Skin_colour.jpg").write_bytes(b"texture")
        return [folder / f"{stem}_Skin_colour.jpg"]

    def preview(self) -> np.ndarray:
        return np.zeros((20, 120, 3), np.uint8)

    def to_json_dict(self) -> dict[str, Any]:
        warnings = [{"reason": name, "message": f"It is {name}."} for name in self.warnings]
        return {"photo": {"width": 64}, "colour": self.colour, "warnings": warnings}

    def save_arrays(self, path: Path) -> None:
        np.savez(path, vertices_head=np.zeros((4, 3), np.float32))


class FakeReconstructor:
    """Finds as many faces as the value of green in the photo; it fails if red is 255, and
    doubts its result if blue is 99. If blue is 66, it ends the process."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, photo: Photo, *, on_stage: Callable[[str], object], **options: Any
    ) -> Sequence[FakeFace]:
        self.calls.append(options)
        on_stage("fitting")
        colour = photo.pixels[0, 0].tolist()
        if colour[2] == 66:
            os._exit(9)
        if colour[0] == 255:
            raise ZeroDivisionError("division by zero")
        doubts = ("small", "blurred") if colour[2] == 99 else ()
        return [FakeFace(colour, warnings=doubts)] * colour[1]


def load(options: object) -> FakeReconstructor:
    """Return a reconstructor, whatever the options."""
    return FakeReconstructor()
