"""`robustness`: error of the fitted points when the dense landmarks are damaged."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from lifemask.evaluation.benchmarks.synthetic import test_faces
from lifemask.evaluation.collect import Progress, silent
from lifemask.evaluation.config import EvaluationConfig
from lifemask.evaluation.datasets import development_folder
from lifemask.evaluation.metrics.bootstrap import mean_and_half_width
from lifemask.evaluation.metrics.box_error import INNER, box_error, box_size
from lifemask.evaluation.systems.protocol import FitsLandmarks
from lifemask.evaluation.systems.registry import load_system
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.perception.observation import FaceObservation

FACES = 60
"""Number of stills of `synthetic`, evenly from all yaw bins."""

_PARTS = {"": slice(None), ", without jaw": INNER}
"""The compared points by suffix of the row's name."""
_UNKNOWN_PERCENT = 20.0
"""Motion of a missing landmark in % of the landmarks' box; its sigma is infinite."""


@dataclass(frozen=True)
class Damage:
    """One kind of damage to the landmarks."""

    name: str
    """Heading of its column."""
    jitter_percent: float = 0.0
    """Standard deviation of noise on each coordinate, % of the landmarks' box; sigma is unchanged."""
    missing_share: float = 0.0
    """Share of the landmarks that are unknown: moved, and with infinite sigma."""
    missing_side: bool = False
    """Whether all landmarks of one half of the image of the face are unknown."""


DAMAGES = (
    Damage("as found"),
    *(Damage(f"jitter {p:g} %", jitter_percent=p) for p in (1.0, 2.0, 4.0, 8.0)),
    *(Damage(f"{100 * s:.0f} % missing", missing_share=s) for s in (0.25, 0.5, 0.75)),
    Damage("one side missing", missing_side=True),
)


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return the errors of the 68 points, with and without the jaw, by damage of dense landmarks."""
    count = FACES if config.limit is None else min(FACES, config.limit)
    faces = test_faces(config).stills(count, lambda a, b: progress("drawing stills", a, b))
    rows: list[Row] = []
    for name in config.systems:
        system = load_system(name, development_folder(config.data))
        errors = {part: dict[str, list[float]]() for part in _PARTS}
        if isinstance(system, FitsLandmarks):
            for index, face in enumerate(faces):
                pixels, truth = face.pixels(), face.truth().landmarks68
                seen = system.observe(pixels, crop=True)
                if seen is None:
                    continue
                for damage in DAMAGES:
                    generator = np.random.default_rng([config.seed, index])
                    prediction = system.predict_from(pixels, damaged(seen, damage, generator))
                    ibug = prediction.ibug_points()
                    assert ibug is not None
                    for part, points in _PARTS.items():
                        error = box_error(ibug[points], truth[points], truth)
                        errors[part].setdefault(damage.name, []).append(error)
                progress(f"robustness, {config.label(name)}", index + 1, len(faces))
        for part, of_part in errors.items():
            cells = {
                k: Cell(*mean_and_half_width(np.array(v), seed=config.seed))
                for k, v in of_part.items()
            }
            rows.append(Row(config.label(name) + part, cells))
    return Table(
        "robustness",
        "68 points of ICT-FaceKit faces in % of their box, when the dense landmarks are damaged",
        tuple(Column(damage.name) for damage in DAMAGES),
        tuple(rows),
        (
            f"{len(faces)} stills of synthetic, quality fast; ± over people. jitter: Gaussian noise "
            "on each coordinate in % of the landmarks' box, with unchanged sigma; missing: landmarks "
            f"drawn by chance, moved by {_UNKNOWN_PERCENT:.0f} % and marked as unknown (infinite "
            "sigma); one side: the landmarks left of the face's middle in the image. Expression "
            "scores stay as found.",
            "ICT's jaw is fixed on the skin, hidden or not, at its places on a frontal face. These "
            "programs give the visible outline instead, and this difference adds to their error. "
            "(Points fixed as in AFLW2000-3D lie centimetres behind ICT's.)",
            "dashes: the dense landmarks of this program cannot be changed from outside.",
        ),
    )


def damaged(
    observation: FaceObservation, damage: Damage, generator: np.random.Generator
) -> FaceObservation:
    """Return the observation with damaged landmarks.

    Args:
        observation: the observation from perception.
        damage: kind and strength.
        generator: use the same seed for every damage, so that only the strength differs.
    """
    points = observation.landmarks478.double().numpy().copy()
    size = box_size(points[:468, :2])
    noise = generator.normal(size=(len(points), 2))
    order = generator.permutation(len(points))
    missing = np.zeros(len(points), bool)
    missing[order[: round(damage.missing_share * len(points))]] = True
    if damage.missing_side:
        missing |= points[:, 0] < np.median(points[:468, 0])
    percent = np.where(missing, _UNKNOWN_PERCENT, damage.jitter_percent)
    points[:, :2] += percent[:, None] / 100 * size * noise
    sigma = observation.landmark_sigma.clone()
    sigma[torch.from_numpy(missing)] = torch.inf
    moved = torch.from_numpy(points).to(observation.landmarks478)
    return replace(observation, landmarks478=moved, landmark_sigma=sigma)
