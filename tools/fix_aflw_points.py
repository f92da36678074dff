"""Choose the positions of AFLW's 21 points on the head, from annotated training crops.

AFLW's annotations differ from iBUG's: brows are lower, mouth corners further in. The head is fitted
to the crops. For each pair of points on both sides, the vertex with the smallest distance to the
annotations in the images is kept. Only vertex numbers are learnt, from crops that no benchmark uses.

    python tools/fix_aflw_points.py --data ../shared/data [--crops 250]

Rewrites `aflw21.*` in assets/head/landmarks.safetensors and its card.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable import MorphableModel
from lifemask.perception import FacePerception

LANDMARKS = Path(__file__).parent.parent / "src/lifemask/assets/head/landmarks.safetensors"
BINS = ((0, 30), (30, 60), (60, 180))
MIRRORED = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 16, 15, 14, 13, 12, 19, 18, 17, 20)
"""The point on the other side."""
SEARCH_METRES = 0.016
"""Largest distance of a point from its present position."""
MIDDLE_METRES = 0.004
"""Largest distance of nose tip, mouth and chin from the middle."""
OUTLIER = 0.2
"""Errors are clamped at this share of the face's size, because some fits fail."""


@dataclass(frozen=True)
class Sample:
    """One crop with the fitted head projected into it."""

    projected: np.ndarray
    """(V, 2) vertices in pixels."""
    annotated: np.ndarray
    """(21, 2) pixels, NaN where not annotated."""
    yaw_degrees: float
    """Absolute yaw."""

    @property
    def size(self) -> float:
        """Square root of the area of the annotations' box, pixels."""
        return float(np.sqrt(np.prod(np.ptp(self.annotated[~np.isnan(self.annotated[:, 0])], 0))))


def main() -> None:
    """Fit the head, choose the points, print the errors and write the points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--crops", type=int, default=250, help="training crops per yaw bin")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = MorphableModel.from_pretrained()
    samples = fitted_samples(model, arguments.data, arguments.crops)
    embedding = model.aflw21
    assert embedding is not None
    positions = embedding.points(model.mean, model.triangles).numpy()
    before = np.linalg.norm(model.mean.numpy()[None] - positions[:, None], axis=-1).argmin(1)
    chosen = choose_vertices(model, samples, positions)
    print("training error, percent:", errors(samples, before), "->", errors(samples, chosen))
    write(model, chosen)


def fitted_samples(model: MorphableModel, data: Path, count: int) -> list[Sample]:
    """Fit the head to `count` crops of each yaw bin, drawn by seed."""
    entries: list[tuple[Path, str, dict]] = []
    for shard in sorted((data / "train").glob("research-aflw-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    entries.append((shard, member.name[:-5], json.load(tar.extractfile(member))))
    generator = np.random.default_rng(0)
    perception = FacePerception.from_pretrained()
    fitter = FaceFitter(model, FitConfig(quality="fast"))
    samples: list[Sample] = []
    for low, high in BINS:
        inside = [e for e in entries if low <= abs(e[2]["yaw_degrees"]) < high]
        for index in generator.permutation(len(inside))[:count]:
            shard, key, label = inside[index]
            with tarfile.open(shard) as tar:
                image = Image.open(io.BytesIO(tar.extractfile(f"{key}.jpg").read()))
                pixels = np.asarray(image.convert("RGB"))
            seen = perception.observe_crop(pixels, quality="full", segment=False, embed=False)
            fit = fitter(pixels, seen)
            projected = fit.face.camera.project(model.vertices(fit.face.coefficients))[
                :, :2
            ].numpy()
            annotated = [[np.nan] * 2 if p is None else p for p in label["landmarks21_xy"]]
            samples.append(Sample(projected, np.array(annotated), abs(label["yaw_degrees"])))
    return samples


def choose_vertices(
    model: MorphableModel, samples: list[Sample], positions: np.ndarray
) -> np.ndarray:
    """Return for each point the vertex with the smallest mean distance to the annotations."""
    vertices, mirror = model.mean.numpy(), model.mirror.numpy()
    shown = sum(model.regions[name] for name in ("skin", "lips", "eyeball_left", "eyeball_right"))
    shown = shown.numpy() > 0.5
    chosen = np.zeros(len(MIRRORED), int)
    for point, other in enumerate(MIRRORED):
        if other < point:
            continue
        near = np.linalg.norm(vertices - positions[point], axis=1) < SEARCH_METRES
        if point == other:
            near &= np.abs(vertices[:, 0]) < MIDDLE_METRES
        candidates = np.flatnonzero(near & shown)
        total = np.zeros(len(candidates))
        for sample in samples:
            for target, on_side in {(point, False), (other, point != other)}:
                if np.isnan(sample.annotated[target, 0]):
                    continue
                image = sample.projected[mirror[candidates] if on_side else candidates]
                distance = np.linalg.norm(image - sample.annotated[target], axis=1) / sample.size
                total += np.minimum(distance, OUTLIER)
        best = candidates[total.argmin()]
        chosen[point], chosen[other] = best, mirror[best] if point != other else best
    return chosen


def errors(samples: list[Sample], vertices: np.ndarray) -> list[float]:
    """Return the mean error of each yaw bin over the 19 scored points, percent."""
    scored = [point for point in range(21) if point not in (12, 16)]
    by_bin: list[list[float]] = [[], [], []]
    for sample in samples:
        distance = np.linalg.norm(sample.projected[vertices] - sample.annotated, axis=1)
        which = next(i for i, (low, high) in enumerate(BINS) if low <= sample.yaw_degrees < high)
        by_bin[which].append(100 * float(np.nanmean(distance[scored])) / sample.size)
    return [round(float(np.mean(values)), 2) for values in by_bin]


def write(model: MorphableModel, vertices: np.ndarray) -> None:
    """Write the points to the landmark file atomically, and its hash to the card."""
    triangles = model.triangles.numpy()
    corners = [np.argwhere(triangles == vertex)[0] for vertex in vertices]
    tensors = load_file(LANDMARKS)
    tensors["aflw21.triangle_index"] = torch.tensor([int(row) for row, _ in corners]).int()
    tensors["aflw21.barycentric"] = torch.eye(3)[[int(corner) for _, corner in corners]]
    temporary = LANDMARKS.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, LANDMARKS)
    card_path = LANDMARKS.with_suffix("").with_suffix(".card.json")
    card = json.loads(card_path.read_text())
    card["sha256"] = hashlib.sha256(LANDMARKS.read_bytes()).hexdigest()
    if __file__.rsplit("/", 1)[-1] not in card["built_by"]:
        card["built_by"] += " and tools/fix_aflw_points.py"
    card_path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
