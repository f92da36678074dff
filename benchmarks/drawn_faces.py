"""Compare systems on drawn faces of a bank that none of them has learned from.

    python benchmarks/drawn_faces.py BANK --parts 43 SYSTEM[=WEIGHTS][:passes=N][:landmarks=none] ...

Every system explains the same crops in one prediction, without a fit. Prints the mean error of each one,
and its difference from the first one with a 95 % interval over faces (the same faces for both):
- points: distance of the 678 points of the mesh from the true ones, percent of the frame's side;
- visible: the same for visible points;
- predicted: the same for the points that the system predicts beside its mesh;
- shape, neutral: distance of the face's surface in head space, with and without expression, mm;
- below mean: by how much the neutral error is lower than that of the mean face, percent;
- rotation: degrees.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.faces import open_bank
from lifemask.data.batch import FaceBatch
from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.losses.face_points import FacePoints
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.systems.registry import load_system
from lifemask.training.passes import predict_batches
from lifemask.training.system import System

BATCH = 25
COLUMNS = ("points", "visible", "predicted", "shape", "neutral", "below mean", "rotation")


@dataclass(frozen=True)
class Arm:
    """A system as it takes part."""

    label: str
    """What was asked for."""
    system: System
    """Trained."""
    knows_landmarks: bool
    """Whether it gets the true landmarks, if it uses any."""

    @classmethod
    def of(cls, label: str) -> "Arm":
        """Return the arm of a text SYSTEM[=WEIGHTS][:passes=N][:landmarks=none]."""
        choice, *changes = label.split(":")
        name, _, weights = choice.partition("=")
        system = load_system(name, weights=Path(weights) if weights else None)
        asked = dict(change.split("=") for change in changes)
        if "passes" in asked:
            system.passes = int(asked["passes"])
        return cls(label, system, asked.get("landmarks") != "none")

    def errors(self, batch: FaceBatch, points: FacePoints) -> Mapping[str, Tensor]:
        """Return the errors of each face of a batch."""
        if not self.knows_landmarks:
            known = batch.landmarks478_weight
            batch = replace(batch, landmarks478_weight=torch.zeros_like(known))
        (face,) = predict_batches(self.system, [batch])
        return errors_of(face, batch, points)


def errors_of(face: ExplainedFace, batch: FaceBatch, points: FacePoints) -> Mapping[str, Tensor]:
    """Return the errors of predicted faces against their truth."""
    truth = batch.truth
    assert truth is not None
    side = batch.photo.shape[-1]
    wanted = torch.cat([batch.landmarks478, truth.surface200], 1)
    seen = torch.cat([truth.visible478, truth.visible200], 1).float()
    mesh = face.camera.project(points.dense(face.coefficients))[..., :2]
    away = 100 / side * (mesh - wanted).norm(dim=-1)
    given, true = face.coefficients, truth.face.coefficients
    found = {
        "points": away.mean(1),
        "visible": (away * seen).sum(1) / seen.sum(1).clamp(min=1),
        "shape": _apart(points, given, true),
        "neutral": _apart(points, _neutral(given), _neutral(true)),
        "mean": _apart(points, _neutral(true, mean=True), _neutral(true)),
        "rotation": _degrees(face, truth.face),
    }
    if face.landmarks is not None:
        away = 100 / side * (face.landmarks.points - wanted).norm(dim=-1)
        found["predicted"] = away.mean(1)
    return found


def _neutral(face: FaceCoefficients, *, mean: bool = False) -> FaceCoefficients:
    plain = replace(face, expression=torch.zeros_like(face.expression))
    return replace(plain, identity=torch.zeros_like(face.identity)) if mean else plain


def _apart(points: FacePoints, given: FaceCoefficients, true: FaceCoefficients) -> Tensor:
    *_, surface = points(given)
    *_, wanted = points(true)
    return 1000 * (surface - wanted).norm(dim=-1).mean(-1)


def _degrees(given: ExplainedFace, true: ExplainedFace) -> Tensor:
    first, second = (viewpoint_of(face.camera).rotation for face in (given, true))
    cosine = ((first * second).sum((-2, -1)) - 1) / 2
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare systems on drawn faces.")
    parser.add_argument("bank", type=Path, help="folder of the bank")
    parser.add_argument(
        "systems", nargs="+", metavar="SYSTEM[=WEIGHTS][:passes=N][:landmarks=none]"
    )
    parser.add_argument("--parts", type=int, nargs="+", required=True, help="that none has seen")
    parser.add_argument("--count", type=int, default=400, help="faces at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms = [Arm.of(label) for label in options.systems]
    faces, _ = open_bank(options.bank, parts=options.parts, any_version=True)
    batches = min(options.count, len(faces)) // BATCH
    found = [list[Mapping[str, Tensor]]() for _ in arms]
    points = FacePoints(arms[0].system.model)
    for index in range(batches):
        plain = faces.batch(index, BATCH)
        for arm, errors in zip(arms, found, strict=True):
            size = arm.system.crop_size
            generator = torch.Generator().manual_seed(0)
            batch = augmented(plain, Augmentation.none(), generator, side=size, size=size)
            errors.append(arm.errors(batch, points))
    _print(arms, found)


def _print(arms: Sequence[Arm], found: Sequence[Sequence[Mapping[str, Tensor]]]) -> None:
    tables = [
        {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
        for parts in found
    ]
    count = len(tables[0]["points"])
    print(f"{count} faces; differences from the first system with 95 % intervals")
    for arm, table in zip(arms, tables, strict=True):
        print(arm.label)
        for name in COLUMNS:
            value, difference, width = _compared(table, tables[0], name)
            if math.isnan(value):
                continue
            against = "" if table is tables[0] else f"  {difference:+.3f} ±{width:.3f}"
            print(f"    {name:12}{value:8.3f}{against}")


def _compared(
    table: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray], name: str
) -> tuple[float, float, float]:
    """Return a figure, its difference from the first system's, and the width of its interval."""

    def figure(of: Mapping[str, np.ndarray], rows: np.ndarray) -> float:
        if name == "below mean":
            return 100 * (1 - float(of["neutral"][rows].mean() / of["mean"][rows].mean()))
        return float(of[name][rows].mean()) if name in of else math.nan

    def difference(rows: np.ndarray) -> float:
        return figure(table, rows) - figure(first, rows)

    count = len(table["points"])
    everything = np.arange(count)
    width = bootstrap_half_width(difference, count, seed=0)
    return figure(table, everything), difference(everything), width


if __name__ == "__main__":
    main()
