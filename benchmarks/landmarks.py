"""Print bias and scatter of predicted dense landmarks, by yaw.

    python benchmarks/landmarks.py dense_landmarks --bank FOLDER [--parts 0 1] [--count 300]
    python benchmarks/landmarks.py dense_landmarks=weights.safetensors --data ../shared/data
    python benchmarks/landmarks.py dense_landmarks --photos PHOTO...

Errors are in % of the size of the box around the true points. For each point and yaw bin, the bias
is the length of the mean error over people, in axes that turn with the face; the scatter is what
remains. `z` is the root mean square of error over predicted standard deviation: 1 is right, more is
too sure. Sources of truth: held-out faces of a bank (exact, drawn as the training faces are);
ICT-FaceKit's faces (independent; points within reach of the registered surface); and photos, where
the full fit that starts from the same prediction takes the place of the truth, so that only
differences between landmarks and surface show.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.faces import open_bank
from lifemask.data.bank.plan import read_plan
from lifemask.evaluation.correspondence import head_to_ict
from lifemask.evaluation.ict_faces.sets import TestFaces
from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.images import read_photo
from lifemask.morphable.covered import predicted_embedding
from lifemask.morphable.explained_face import PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.perception import FacePerception
from lifemask.pipeline.predictor import SystemPredictor
from lifemask.systems.registry import load_system
from lifemask.training.passes import predict
from lifemask.training.system import FramedFaces, System

BINS = ((0, 30), (30, 60), (60, 180))
GROUPS: dict[str, range | tuple[int, ...]] = {
    "all": range(678),
    "eyes": (*range(33, 34), 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
             263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "lips": (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88,
             95, 61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181),
    "surface": range(478, 678),
}  # fmt: skip
REACH_METRES = 0.003
"""Largest distance of a landmark from the ICT vertices whose places give its truth."""


@dataclass(frozen=True)
class Case:
    """One face: prediction and truth in the same pixels."""

    predicted: PredictedLandmarks
    true: Float[np.ndarray, "678 2"]
    """NaN where unknown."""
    yaw_degrees: float
    """Signed: positive towards the subject's left."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("system", help="NAME or NAME=WEIGHTS")
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--parts", type=int, nargs="*", default=[])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    name, _, weights = options.system.partition("=")
    system = load_system(name, weights=Path(weights) if weights else None)
    with torch.no_grad():
        if options.bank:
            report("bank", list(bank_cases(system, options.bank, options.parts, options.count)))
        if options.data:
            report("ICT", list(ict_cases(system, options.data, options.count)))
        if options.photos:
            report("photos", list(photo_cases(system, options.photos)))


def bank_cases(system: System, folder: Path, parts: list[int], count: int) -> Iterator[Case]:
    """Yield held-out faces of a bank."""
    _, held_out = open_bank(folder, parts=parts, any_version=True)
    side = read_plan(folder).side
    for index in range(min(count, len(held_out))):
        batch = held_out.batch(index, 1)
        batch = augmented(
            batch, Augmentation.none(), torch.Generator(), side=side, size=system.crop_size
        )
        face = predict(system, FramedFaces(batch.photo))[0]
        assert batch.truth is not None
        assert face.landmarks is not None
        true = torch.cat([batch.landmarks478[0], batch.truth.surface200[0]])
        yield Case(face.landmarks, true.numpy(), yaw(batch.truth.face[0]))


def ict_cases(system: System, data: Path, count: int) -> Iterator[Case]:
    """Yield stills of ICT-FaceKit; truth where registered vertices are near a landmark."""
    folder = data / "dev" if (data / "dev").is_dir() else data
    path = folder.parent / "models" / "ict_facekit_light.npz"
    model = MorphableModel.from_pretrained()
    partners = head_to_ict(path)
    predictor, perception = SystemPredictor(system, model), FacePerception.from_pretrained()
    mean = model.mean.numpy()
    places = partners.partners(mean)
    marks = predicted_embedding(model).points(model.mean, model.triangles).numpy()
    distance, nearest = KDTree(places).query(marks, k=4)
    share = 1 / np.maximum(distance, 1e-4) ** 2
    share /= share.sum(1, keepdims=True)
    known = distance[:, 0] < REACH_METRES
    for face in TestFaces(path, seed=0).stills(count):
        truth, pixels = face.truth(), face.pixels()
        observation = perception.observe_crop(pixels, quality="fast", segment=False, embed=False)
        found = predictor(pixels, observation)
        assert found.landmarks is not None
        seen = truth.points[partners.vertices].astype(np.float64)
        true = (seen[nearest] * share[..., None]).sum(1)
        true[~known] = np.nan
        yield Case(found.landmarks, true, yaw(found))


def photo_cases(system: System, photos: list[Path]) -> Iterator[Case]:
    """Yield photos; the full fit is the truth."""
    model = MorphableModel.from_pretrained()
    predictor, perception = SystemPredictor(system, model), FacePerception.from_pretrained()
    fitter, marks = FaceFitter(model, FitConfig()), predicted_embedding(model)
    for path in photos:
        pixels = read_photo(path).pixels
        observation = perception.observe_crop(pixels, quality="full", segment=True, embed=False)
        found = predictor(pixels, observation)
        assert found.landmarks is not None
        fit = fitter(pixels, observation, start=found).face
        points = marks.points(model.vertices(fit.coefficients), model.triangles)
        yield Case(found.landmarks, fit.camera.project(points)[:, :2].numpy(), yaw(fit))


def yaw(face) -> float:
    """Return the yaw of one face in degrees, positive towards the subject's left."""
    forward = viewpoint_of(face.camera).rotation[:, 2]
    return float(torch.rad2deg(torch.atan2(forward[0], -forward[2])))


def report(name: str, cases: list[Case]) -> None:
    """Print one line per yaw bin and group of points."""
    print(f"{name}: {len(cases)} faces; % of the box")
    print(f"{'yaw':8} {'points':8} {'faces':>5} {'error':>6} {'bias':>6} {'scatter':>7} {'z':>5}")
    mirror = mirrored_rows()
    for low, high in BINS:
        errors, ratios = [], []
        for case in cases:
            if not low <= abs(case.yaw_degrees) < high:
                continue
            size = np.sqrt(np.prod(np.nanmax(case.true, 0) - np.nanmin(case.true, 0)))
            away = case.predicted.points.numpy() - case.true
            ratio = away / case.predicted.sigma.numpy()[:, None]
            if case.yaw_degrees < 0:  # All faces look to the same side.
                away, ratio = (values[mirror] * [-1, 1] for values in (away, ratio))
            errors.append(away / size * 100)
            ratios.append(ratio)
        if not errors:
            continue
        stacked, scaled = np.stack(errors), np.stack(ratios)
        for group, members in GROUPS.items():
            rows = [r for r in members if np.isfinite(stacked[:, r]).all()]
            if not rows:
                continue
            part = stacked[:, rows]
            bias = part.mean(0)
            print(
                f"{low}-{high:<5} {group:8} {len(stacked):5} "
                f"{np.linalg.norm(part, axis=-1).mean():6.2f} "
                f"{np.linalg.norm(bias, axis=-1).mean():6.2f} "
                f"{np.linalg.norm(part - bias, axis=-1).mean():7.2f} "
                f"{np.sqrt((scaled[:, rows] ** 2).mean()):5.2f}"
            )


def mirrored_rows() -> list[int]:
    """Return the mirror image of each of the 678 points."""
    from lifemask.data.mirroring import mirror_of_dense

    return mirror_of_dense(678)


if __name__ == "__main__":
    main()
