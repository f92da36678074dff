"""Estimate the distribution of real people in the modes of the CC0 head, from ICT-FaceKit's scans.

The head's raw modes come from artists, and a quarter of their random people are caricatures. Here,
people drawn from ICT-FaceKit are fitted with the raw modes and additional smooth Gaussian-process
modes (Luethi et al., "Gaussian process morphable models", 2018). The mean and covariance of their
coefficients replace the artists' prior. The output contains only these statistics, no ICT vertices.
Skull, ears and neck are calibrated together with the face, and directions that the scans do not
show are shrunk.

    python tools/calibrate_face_model.py --data ../shared/data

reads the raw modes that `build_face_model.py` writes to the cache, and writes
`tools/face_model_statistics.safetensors` with its card.
"""

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from face_model.gaussian_process import smooth_head_modes
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lifemask.evaluation.geometry import (
    IctTarget,
    dense_landmarks,
    ict_target,
    landmark_pairs,
)
from lifemask.morphable import MorphableModel
from lifemask.perception import FacePerception
from lifemask.registration import (
    LandmarkPairs,
    LinearShape,
    RegistrationConfig,
    register,
    rigid_motions,
)
from lifemask.registration.surface_landmarks import SurfaceLandmarks

Array = NDArray[np.float64]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lifemask"
STATISTICS = Path(__file__).parent / "face_model_statistics.safetensors"

CALIBRATION_SEED = 77
"""People drawn with this seed are used here; `benchmarks/geometry.py` evaluates on other people."""
CALIBRATION_PEOPLE = 1500
MODES = 120

_NOISE_SQUARE_MILLIMETRES = 3.0
_HEAD_WEIGHT = 0.12
_UNSEEN_VARIANCE = 0.3
_WHOLE_HEAD_SHARE = 0.05
_ROUNDS = 2


@dataclass(frozen=True)
class RawHead:
    """The head before calibration: mean and modes on the level-1 skin."""

    mean: Array
    """(V, 3) metres."""
    modes: Array
    """(K, V, 3) metres: the artists' modes per standard deviation, then the smooth modes."""
    artists: int
    """Number of the artists' modes."""
    triangles: NDArray[np.int64]
    """(T, 3) outer skin."""


def read_raw(path: Path) -> tuple[RawHead, dict[str, Array]]:
    """Read the raw modes of `build_face_model.py` and add smooth modes, which are returned too."""
    with np.load(path) as stored:
        sizes = dict(zip(stored["part_names"].tolist(), stored["part_sizes"].tolist(), strict=True))
        skin = sizes["skin"]
        quads = stored["fine_skin_quads"][stored["fine_skin_part_of_quad"] == 0]
        rows, columns = stored["subdivision_rows"], stored["subdivision_columns"]
        values = stored["subdivision_values"].astype(np.float64)
        refine = sp.csr_matrix((values, (rows, columns)), shape=(int(rows.max()) + 1, skin))
        smooth, smooth_eyes = smooth_head_modes(
            stored["mean"], sizes, stored["control_mirror"], stored["eye_centres"]
        )
        artists = stored["basis"].astype(np.float64)
        control = np.concatenate([artists[:, :skin], smooth[:, :skin]])
        flat = np.moveaxis(control, 0, 2).reshape(skin, -1)
        fine = np.asarray(refine @ flat).reshape(refine.shape[0], 3, -1)
        raw = RawHead(
            mean=refine @ stored["mean"][:skin],
            modes=np.ascontiguousarray(np.moveaxis(fine, 2, 0)),
            artists=len(artists),
            triangles=quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3),
        )
    return raw, {"skin": smooth[:, :skin], "eyes": smooth_eyes}


# -------------------------------------------------------------------------------- correspondences


@dataclass(frozen=True)
class Partners:
    """For ICT vertices, their partners on the head's outer skin."""

    vertices: NDArray[np.int64]
    """(N,) ICT vertices."""
    weights: Array
    """(N,) weight of each vertex: its area, reduced outside the face."""
    in_face: NDArray[np.bool_]
    """(N,) whether the vertex belongs to the evaluated face."""
    triangle: NDArray[np.int64]
    """(N,) index into the head's outer triangles."""
    barycentric: Array
    """(N, 3) weights of the triangle's corners."""

    def on(self, raw: RawHead, fine_values: Array) -> Array:
        """Return (..., N, 3) level-1 values at the partners."""
        corners = raw.triangles[self.triangle]
        return np.einsum("nc,...ncd->...nd", self.barycentric, fine_values[..., corners, :])


def find_partners(raw: RawHead, ict: IctTarget, landmarks: LandmarkPairs) -> Partners:
    """Register the raw head to ICT's mean and return the correspondences."""
    shape = LinearShape(raw.mean, raw.modes[: raw.artists], raw.triangles)
    head = np.setdiff1d(ict.head, ict.face)[::2]
    vertices = np.concatenate([ict.face, head])
    in_face = np.arange(len(vertices)) < len(ict.face)
    weights = ict.weights[vertices] * np.where(in_face, 1.0, _HEAD_WEIGHT)
    fitted = register(
        shape,
        ict.mean[vertices],
        weights,
        landmarks=landmarks,
        normals=ict.normals[vertices],
        config=RegistrationConfig(iterations=16, prior=2.0, landmark_weight=3.0, free_scale=False),
    )
    surface = fitted.surface
    distance = surface.distance * 1e3
    face_error = np.average(distance[in_face], weights=weights[in_face])
    print(f"head registered to ICT's mean: {face_error:.2f} mm over the face")
    keep = in_face | (distance < 5)
    return Partners(
        vertices[keep],
        weights[keep],
        in_face[keep],
        surface.triangle_index[keep],
        surface.barycentric[keep],
    )


# ------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class Statistics:
    """A Gaussian over coefficients of the raw and the smooth modes."""

    mean: Array
    """(K,) mean coefficients."""
    covariance: Array
    """(K, K) covariance."""


class Fitter:
    """Fits all modes to people in known correspondence; the linearised pose has six unknowns."""

    def __init__(self, raw: RawHead, partners: Partners, ict: IctTarget) -> None:
        mean = partners.on(raw, raw.mean)
        modes = partners.on(raw, raw.modes)
        weight = partners.weights / partners.weights[partners.in_face].mean()
        rows = np.repeat(weight, 3)
        self.count = len(modes)
        rigid = rigid_motions(mean)
        matrix = np.concatenate([modes, rigid]).reshape(self.count + 6, -1) * 1e3
        self.normal = (matrix * rows) @ matrix.T
        target = (ict.mean[partners.vertices] - mean).reshape(-1) * 1e3
        people = ict.identity_basis[:, partners.vertices].reshape(len(ict.identity_basis), -1) * 1e3
        self.offset = (matrix * rows) @ target
        self.gain = (matrix * rows) @ people.T

    def posterior(self, prior: Statistics) -> tuple[Array, Array, Array]:
        """Return the linear map from ICT coefficients to (modes, pose), its offset and covariance.

        The prior applies to the modes; the pose has no prior.
        """
        precision = np.zeros_like(self.normal)
        precision[: self.count, : self.count] = np.linalg.inv(prior.covariance)
        shift = precision[:, : self.count] @ prior.mean
        inverse = np.linalg.inv(self.normal / _NOISE_SQUARE_MILLIMETRES + precision)
        gain = inverse @ self.gain / _NOISE_SQUARE_MILLIMETRES
        offset = inverse @ (self.offset / _NOISE_SQUARE_MILLIMETRES + shift)
        return gain, offset, inverse[: self.count, : self.count]


def estimate(
    fitter: Fitter, people: Array, start: Statistics, parity: Array, *, rounds: int
) -> Statistics:
    """Return mean and covariance of the coefficients of the people and their mirror images.

    The method is expectation maximisation. Directions that the people do not show keep a part of
    their variance from the start.

    Args:
        fitter: fits people.
        people: (P, 100) their ICT coefficients.
        start: the first prior.
        parity: (K,) 1 for a symmetric mode, -1 for an antisymmetric one, which a mirror negates.
        rounds: number of iterations.
    """
    current = start
    same = parity[:, None] == parity[None]
    for _ in range(rounds):
        gain, offset, spread = fitter.posterior(current)
        coefficients = (people @ gain.T + offset)[:, : fitter.count]
        covariance = np.cov(coefficients.T) + _UNSEEN_VARIANCE * spread
        current = Statistics(coefficients.mean(0) * (parity > 0), covariance * same)
    return current


def mode_parity(raw: RawHead, mirror: NDArray[np.int64]) -> Array:
    """Return 1 for every symmetric mode and -1 for every antisymmetric one."""
    reflected = raw.modes[:, mirror] * [-1, 1, 1]
    return np.sign((raw.modes * reflected).sum((1, 2)))


def principal(statistics: Statistics, raw: RawHead, partners: Partners, count: int) -> Array:
    """Return (count, K) directions of one standard deviation, by decreasing variance of the face."""
    values, vectors = np.linalg.eigh(statistics.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    in_face = partners.on(raw, raw.modes)[:, partners.in_face]
    area = partners.weights[partners.in_face]
    # The whole head has a small weight; otherwise, directions of skull and ears would have no order.
    whole = raw.modes[:, np.unique(raw.triangles)]
    columns = np.concatenate(
        [
            (in_face * np.sqrt(area / area.sum())[:, None]).reshape(len(raw.modes), -1),
            whole.reshape(len(raw.modes), -1) * np.sqrt(_WHOLE_HEAD_SHARE / whole.shape[1]),
        ],
        axis=1,
    )
    variance, turn = np.linalg.eigh(root.T @ (columns @ columns.T) @ root)
    order = np.argsort(-variance)[:count]
    directions = (root @ turn[:, order]).T
    strongest = np.abs(directions).argmax(1)
    return directions * np.sign(directions[np.arange(count), strongest])[:, None]


def main() -> None:
    """Calibrate and write the statistics, which `build_face_model.py` reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--raw", type=Path, default=CACHE / "build" / "head_raw.npz")
    parser.add_argument("--output", type=Path, default=STATISTICS)
    arguments = parser.parse_args()
    raw, smooth = read_raw(arguments.raw)
    perception = FacePerception.from_pretrained()
    ict_path = arguments.data / "models" / "ict_facekit_light.npz"
    ict = ict_target(ict_path, perception)
    own = landmarks_on(raw)
    shape = LinearShape(raw.mean, raw.modes[:1], raw.triangles)
    partners = find_partners(raw, ict, landmark_pairs(shape, own, ict.landmarks))
    fitter = Fitter(raw, partners, ict)
    prior = Statistics(np.zeros(fitter.count), np.eye(fitter.count))
    people = ict.identities(CALIBRATION_SEED, CALIBRATION_PEOPLE)
    mirror = MorphableModel.from_pretrained().mirror
    assert mirror is not None
    parity = mode_parity(raw, mirror[: len(raw.mean)].numpy())
    print(f"{(parity > 0).sum()} symmetric and {(parity < 0).sum()} antisymmetric modes")
    statistics = estimate(fitter, people, prior, parity, rounds=_ROUNDS)
    modes = principal(statistics, raw, partners, MODES)
    tensors = people_tensors(statistics.mean, modes, raw, smooth)
    write(tensors, arguments.output, ict_path)
    print(f"wrote {arguments.output}")


def landmarks_on(raw: RawHead) -> SurfaceLandmarks:
    """Return the shipped head's dense points on the raw mean, which has the same topology."""
    model = MorphableModel.from_pretrained(identity_modes=0)
    shipped = dense_landmarks(model)
    dense = model.dense478
    assert dense is not None
    corners = model.triangles[dense.triangle_index].numpy()
    on_skin = corners.max(1) < len(raw.mean)
    position = np.full((len(corners), 3), np.nan)
    position[on_skin] = np.einsum(
        "nc,ncd->nd", dense.barycentric.numpy()[on_skin], raw.mean[corners[on_skin]]
    )
    return SurfaceLandmarks(position, shipped.spread, shipped.views)


def people_tensors(
    mean: Array, modes: Array, raw: RawHead, smooth: dict[str, Array]
) -> dict[str, NDArray[np.generic]]:
    """Return the statistics as coefficients of the artists' modes and sums of the smooth modes.

    The eigenvectors of a smooth kernel change if a vertex moves slightly. So the sums of smooth modes
    are stored in millimetres, because coefficients would mean something else on another machine.
    """
    artists = raw.artists
    surface, eyes = smooth["skin"] * 1e3, smooth["eyes"] * 1e3
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, coefficients in (("mean", mean), ("modes", modes)):
        added = np.tensordot(coefficients[..., artists:], surface, 1)
        eye_added = np.tensordot(coefficients[..., artists:], eyes, 1)
        tensors[name] = np.ascontiguousarray(coefficients[..., :artists], np.float32)
        tensors[f"smooth_{name}"] = np.ascontiguousarray(added, np.float16)
        tensors[f"smooth_eye_{name}"] = np.ascontiguousarray(eye_added, np.float32)
    return tensors


def write(tensors: dict[str, NDArray[np.generic]], output: Path, ict_path: Path) -> None:
    """Write the statistics and their card."""
    save_file(tensors, output)
    licence = ict_path.with_name("ict_facekit_light.LICENSE").read_text(encoding="utf-8")
    card = {
        "name": "Statistics of the default head",
        "version": "1",
        "description": "Mean and principal directions of the coefficients of people from "
        "ICT-FaceKit in the modes of the CC0 head",
        "licence": "MIT",
        "attribution": "Estimated on ICT-FaceKit Light, Copyright (c) 2020 USC Institute for "
        "Creative Technologies",
        "sources": [
            {
                "name": "ICT-FaceKit Light",
                "version": "1.0",
                "where": "github.com/ICT-VGL/ICT-FaceKit, FaceXModel",
                "sha256": hashlib.sha256(ict_path.read_bytes()).hexdigest(),
                "licence": "MIT",
                "licence_text": licence,
            }
        ],
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "built_by": "tools/calibrate_face_model.py",
        "used_at": "training and grading",
    }
    output.with_suffix(".card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
