"""Choose the places of the fixed landmarks on the head, after the points of 3DDFA_V2.

AFLW2000-3D and the programs that are measured on it use 68 points that are fixed on the surface of
the Basel Face Model. The head is fitted to AFLW crops, and each pair of points on both sides moves to
the place on the skin whose image lies nearest to 3DDFA_V2's points in the same crops. Every second
crop, by key, decides, and the others measure. AFLW's annotations take no part.

    python tools/fit_fixed_jaw.py --data ../shared/data [--cache FOLDER]

Rewrites `landmarks68.*` in assets/head/landmarks.safetensors and its card; all other tensors stay as
they are. Run it after tools/build_landmarks.py, which writes `landmarks68_outline.*`: the places on a
frontal face, from which the jaw slides.
"""

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lifemask.data.mirroring import MIRROR68
from lifemask.evaluation.datasets import Aflw21Crop, development_folder, read_aflw21
from lifemask.evaluation.geometry import outer_triangles
from lifemask.evaluation.metrics.landmark_error import yaw_bin
from lifemask.morphable import MorphableModel
from lifemask.morphable.contour import jaw_vertices
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.registration import TriangleSurface
from lifemask.rendering.heads import head_vertices

LANDMARKS = Path(__file__).parent.parent / "src/lifemask/assets/head/landmarks.safetensors"
INNER = range(17, 68)
"""Brows, eyes, nose and mouth."""
AGREEMENT = 0.05
"""Crops count where the inner points of both programs differ by at most this share of the size."""
OUTLIER = 0.1
"""Distances are clamped at this share of the size."""
JAW_METRES, INNER_METRES = 0.05, 0.012
"""Largest distance of a point from its place on a frontal face; the fixed jaw lies far behind it."""
ROUNDS = 3
"""Choices; each aligns the crops by the inner points of the one before."""
STEPS = 6
"""Places on a triangle are tried in steps of one sixth of its sides."""

NOTE = (
    "The places of the fixed points, above all of the jaw, follow the convention of AFLW2000-3D as "
    "3DDFA_V2 draws it."
)

Array = np.ndarray


@dataclass(frozen=True)
class Sample:
    """Crops with the head that is fitted to them, and with the points of 3DDFA_V2."""

    vertices: Array
    """(N, V, 2) the head's vertices, pixels."""
    target: Array
    """(N, 68, 2) 3DDFA_V2's points, pixels."""
    bins: Array
    """(N,) number of the yaw bin."""

    @property
    def size(self) -> Array:
        """(N,) square root of the area of the box of 3DDFA_V2's points, pixels."""
        return np.sqrt(np.prod(np.ptp(self.target, axis=1), axis=-1))

    def take(self, rows: Array) -> "Sample":
        """Return some of the crops."""
        return Sample(self.vertices[rows], self.target[rows], self.bins[rows])


def main() -> None:
    """Fit the head, choose the places, print the distances and write the points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, help="an existing folder that keeps finished crops")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    development = development_folder(arguments.data)
    crops = sorted(read_aflw21(development), key=lambda crop: crop.key)
    model = MorphableModel.from_pretrained()
    sample = Sample(
        fitted_vertices(crops, arguments.cache),
        three_ddfa_points(crops, development),
        yaw_bin(np.array([crop.yaw_degrees for crop in crops])),
    )
    deciding = np.arange(len(crops)) % 2 == 0
    before = model.landmarks68_outline
    assert before is not None
    after = chosen_landmarks(model, sample.take(deciding), before)
    held = sample.take(~deciding)
    print("distance on held-out crops, % of the box, by yaw bin: jaw, inner, all")
    print("jaw on the outline:", distances(held, on_outline(model, held, before)))
    print("fixed on the surface:", distances(held, images(model, held, after)))
    write(after)


def fitted_vertices(crops: list[Aflw21Crop], cache: Path | None) -> Array:
    """Return (N, V, 2) vertices of the head that is fitted to each crop, in pixels.

    Args:
        crops: N crops.
        cache: a folder in which finished crops are kept, `KEY.npy`.
    """
    reconstructor = FaceReconstructor.from_pretrained(quality="fast")
    found = list[Array]()
    for crop in crops:
        file = None if cache is None else cache / f"{crop.key}.npy"
        if file is not None and file.exists():
            found.append(np.load(file))
            continue
        seen = reconstructor.perception.observe_crop(
            crop.pixels, quality="fast", segment=False, embed=False
        )
        face = reconstructor.explain(crop.pixels, seen).face
        vertices = face.camera.project(head_vertices(reconstructor.model, face))
        found.append(vertices[:, :2].numpy())
        if file is not None:
            np.save(file, found[-1])
    return np.stack(found)


def three_ddfa_points(crops: list[Aflw21Crop], development: Path) -> Array:
    """Return 3DDFA_V2's (N, 68, 2) points in the crops, pixels."""
    with np.load(development / "peers" / "3ddfa_v2_mb05" / "aflw21.npz") as stored:
        points = dict(zip(stored["key"].tolist(), stored["landmarks68"], strict=True))
    return np.stack([points[crop.key] for crop in crops]).astype(np.float64)


def aligned(sample: Sample, points: Array) -> tuple[Array, Array]:
    """Return the targets moved onto our inner points, and what the inner points still differ.

    Each crop has its own similarity, which removes most of the difference of the two poses.

    Args:
        sample: N crops.
        points: (N, 68, 2) our points, pixels.

    Returns:
        (N, 68, 2) pixels, and (N,) mean distance of the inner points as a share of the size.
    """
    ours, theirs = (p[:, INNER] @ [1, 1j] for p in (points, sample.target))
    middle, other = ours.mean(1, keepdims=True), theirs.mean(1, keepdims=True)
    # In the complex plane a similarity is one factor and one shift.
    factor = ((theirs - other).conj() * (ours - middle)).sum(1, keepdims=True)
    factor /= (np.abs(theirs - other) ** 2).sum(1, keepdims=True)
    moved = factor * (sample.target @ [1, 1j] - other) + middle
    share = np.abs(moved[:, INNER] - ours).mean(1) / (sample.size * np.abs(factor[:, 0]))
    return np.stack([moved.real, moved.imag], -1), share


def chosen_landmarks(
    model: MorphableModel, sample: Sample, start: LandmarkEmbedding
) -> LandmarkEmbedding:
    """Return the 68 places that the crops decide.

    Args:
        model: the head.
        sample: the deciding crops.
        start: the places on a frontal face.
    """
    frontal = start.points(model.mean, model.triangles).numpy()
    found = start
    for _ in range(ROUNDS):
        target, difference = aligned(sample, images(model, sample, found))
        agree = difference < AGREEMENT
        found = attached(model, choose(model, sample.take(agree), target[agree], frontal))
    return found


def choose(model: MorphableModel, sample: Sample, target: Array, frontal: Array) -> Array:
    """Return the (68, 3) places on the mean head, metres, the same on both sides.

    Args:
        model: the head.
        sample: N crops.
        target: (N, 68, 2) where the points should lie, pixels.
        frontal: (68, 3) the places on a frontal face, metres; the search starts there.
    """
    assert model.mirror is not None
    mean, mirror, triangles = (t.numpy() for t in (model.mean, model.mirror, model.triangles))
    outer = triangles[outer_triangles(model)]
    middle = mirror == np.arange(len(mean))
    places = frontal.copy()
    for point, other in enumerate(MIRROR68):
        if other < point:
            continue

        def cost(corners: Array, weights: Array, point: int = point, other: int = other) -> Array:
            seen = (sample.vertices[:, corners] * weights[..., None]).sum(-2)
            errors = mean_distance(seen, target[:, point], sample)
            if other == point:
                return errors
            seen = (sample.vertices[:, mirror[corners]] * weights[..., None]).sum(-2)
            return errors + mean_distance(seen, target[:, other], sample)

        reach = INNER_METRES if point in INNER else JAW_METRES
        near = np.linalg.norm(mean - frontal[point], axis=1) < reach
        if other == point:
            near &= middle
        vertices = np.intersect1d(np.flatnonzero(near), outer)
        best = vertices[cost(vertices[:, None], np.ones((1, 1))).argmin()]
        around = outer[(outer == best).any(1)]
        grid = barycentric_grid(STEPS)
        corners, weights = np.repeat(around, len(grid), 0), np.tile(grid, (len(around), 1))
        if other == point:
            on_middle = ((weights == 0) | middle[corners]).all(1)
            corners, weights = corners[on_middle], weights[on_middle]
        finest = cost(corners, weights).argmin()
        places[point] = weights[finest] @ mean[corners[finest]]
        places[other] = places[point] * [-1 if other != point else 1, 1, 1]
    return places


def mean_distance(seen: Array, target: Array, sample: Sample) -> Array:
    """Return the mean over yaw bins of the clamped distances of C candidates, shares of the size.

    Args:
        seen: (N, C, 2) pixels.
        target: (N, 2) pixels.
        sample: the N crops.
    """
    distance = np.linalg.norm(seen - target[:, None], axis=-1) / sample.size[:, None]
    clamped = np.minimum(distance, OUTLIER)
    return np.mean([clamped[sample.bins == b].mean(0) for b in np.unique(sample.bins)], axis=0)


def barycentric_grid(steps: int) -> Array:
    """Return the (G, 3) weights of a regular grid on a triangle, corners and sides included."""
    return np.array(
        [[i, j, steps - i - j] for i in range(steps + 1) for j in range(steps + 1 - i)]
    ) / float(steps)


def attached(model: MorphableModel, places: Array) -> LandmarkEmbedding:
    """Return points attached to the outer skin, as near as possible to the given places, metres."""
    outer, mean = outer_triangles(model), model.mean.double().numpy()
    surface = TriangleSurface(model.triangles.numpy()[outer], len(mean), neighbours=8)
    found = surface.closest(mean, places)
    return LandmarkEmbedding(
        torch.from_numpy(outer[found.triangle_index]),
        torch.from_numpy(found.barycentric).float(),
        torch.ones(len(places)),
    )


def images(model: MorphableModel, sample: Sample, embedding: LandmarkEmbedding) -> Array:
    """Return (N, K, 2) where the crops show the points, pixels."""
    corners = model.triangles[embedding.triangle_index].numpy()
    return (sample.vertices[:, corners] * embedding.barycentric.numpy()[..., None]).sum(-2)


def on_outline(model: MorphableModel, sample: Sample, frontal: LandmarkEmbedding) -> Array:
    """Return (N, 68, 2) the points with the jaw on the visible outline, pixels."""
    assert model.contours is not None
    points = images(model, sample, frontal)
    for seen, vertices in zip(points, sample.vertices, strict=True):
        upright = torch.from_numpy(vertices[model.contours[8, 0]] - seen[27]).float()
        chosen = jaw_vertices(model, torch.from_numpy(vertices), upright).numpy()
        sliding = np.arange(17) != 8
        seen[:17][sliding] = vertices[chosen[sliding]]
    return points


def distances(sample: Sample, points: Array) -> str:
    """Return the mean distances to 3DDFA_V2's points, in percent of the size, as text."""
    errors = 100 * np.linalg.norm(points - sample.target, axis=-1) / sample.size[:, None]
    parts = (errors[:, :17], errors[:, INNER], errors)
    return ", ".join(
        " / ".join(f"{part[sample.bins == b].mean():.2f}" for b in np.unique(sample.bins))
        for part in parts
    )


def write(embedding: LandmarkEmbedding) -> None:
    """Write the fixed points to the landmark file, and its hash to the card."""
    tensors = load_file(LANDMARKS)
    for part in ("triangle_index", "barycentric", "weight"):
        # The first run on a file of the old form keeps its points as those of the outline.
        tensors.setdefault(f"landmarks68_outline.{part}", tensors[f"landmarks68.{part}"])
    tensors["landmarks68.triangle_index"] = embedding.triangle_index.int()
    tensors["landmarks68.barycentric"] = embedding.barycentric
    tensors["landmarks68.weight"] = embedding.weight
    temporary = LANDMARKS.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, LANDMARKS)
    path = LANDMARKS.with_suffix(".card.json")
    card = json.loads(path.read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256(LANDMARKS.read_bytes()).hexdigest()
    if NOTE not in card["description"]:
        card["description"] = f"{card['description'].rstrip('.')}. {NOTE}"
    name = f"tools/{Path(__file__).name}"
    if name not in card["built_by"]:
        card["built_by"] += f" and {name}"
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
