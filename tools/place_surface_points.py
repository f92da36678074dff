"""Place 200 points on the skin of the default head where its dense points have gaps.

    python tools/place_surface_points.py [--figure points.png]

Cheeks, forehead, jaw, nose and ears have few of the 478 dense points. Farthest point sampling on the
mean head adds vertices of its left half, each as far as possible from all points before it; the
vertices on the right half are their mirror images. Points 2k and 2k + 1 are a mirrored pair. Writes
the points into assets/head/landmarks.safetensors; all other landmarks there stay as they are.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.rasterization import rasterize

LANDMARKS = Path(__file__).parent.parent / "src/lifemask/assets/head/landmarks.safetensors"

PAIRS = 100
"""Mirrored pairs of points."""

CLEAR = 0.004
"""Smallest distance in metres from the plane of symmetry: nearer points would be their own pair."""


def main() -> None:
    """Place the points, write them, and draw them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=LANDMARKS)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    model = MorphableModel.from_pretrained()
    vertices = chosen_vertices(model)
    tensors = load_file(options.output)
    tensors |= {f"surface200.{name}": value for name, value in at_vertices(model, vertices).items()}
    save_file(tensors, options.output)
    card = options.output.with_suffix("").with_suffix(".card.json")
    if card.exists():
        document = json.loads(card.read_text())
        document["sha256"] = hashlib.sha256(options.output.read_bytes()).hexdigest()
        card.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if options.figure:
        draw(model, vertices, options.figure)


def chosen_vertices(model: MorphableModel) -> np.ndarray:
    """Return the vertices, (200,), in mirrored pairs."""
    assert model.dense478 is not None
    assert model.mirror is not None
    regions = model.regions
    skin = torch.maximum(regions["face"], regions["ears"]) > 0.5
    for name in ("eyes", "lips", "mouth_bag", "scalp", "lashes", "teeth", "tongue"):
        skin &= regions[name] < 0.5
    shown = skin & seen_vertices(model) & (model.mean[:, 0] > CLEAR)
    candidates = torch.nonzero(shown).squeeze(-1)
    dense = model.dense478.points(model.mean, model.triangles)[:468]
    nearest = torch.cdist(model.mean[candidates], dense).amin(-1)
    left: list[int] = []
    for _ in range(PAIRS):
        at = int(nearest.argmax())
        left.append(int(candidates[at]))
        distance = (model.mean[candidates] - model.mean[candidates[at]]).norm(dim=-1)
        nearest = torch.minimum(nearest, distance)
    pairs = torch.tensor([[v, int(model.mirror[v])] for v in left])
    return pairs.flatten().numpy()


def seen_vertices(model: MorphableModel) -> torch.Tensor:
    """Return which vertices of the mean head some camera around it sees, (V,)."""
    size, seen = 512, torch.zeros(len(model.mean), dtype=torch.bool)
    for yaw in (-90.0, -45.0, 0.0, 45.0, 90.0):
        for pitch in (-35.0, 0.0, 35.0):
            points = camera(yaw, pitch, size).project(model.mean)
            fragments = rasterize(points, model.triangles, (size, size))
            index = fragments.triangle_index
            seen[model.triangles[index[index >= 0].unique()].flatten()] = True
    return seen


def camera(yaw_degrees: float, pitch_degrees: float, size: int) -> PerspectiveCamera:
    """Return a camera that shows the whole head."""
    yaw, pitch = torch.tensor([yaw_degrees, pitch_degrees]).deg2rad()
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ matrix_from_yaw_pitch_roll(
        yaw, pitch, torch.tensor(0.0)
    )
    centre = rotation @ torch.tensor([0.0, -0.03, -0.05])
    motion = rigid_transform(rotation, torch.tensor([0.0, 0.0, 1.5]) - centre)
    return PerspectiveCamera(
        torch.tensor(size * 4.5), torch.tensor([size / 2, size / 2]), motion, (size, size)
    )


def at_vertices(model: MorphableModel, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of an embedding of points that lie at vertices."""
    triangles = model.triangles.numpy()
    index = np.array([int(np.flatnonzero((triangles == v).any(1))[0]) for v in vertices])
    barycentric = (triangles[index] == vertices[:, None]).astype(np.float32)
    weight = np.ones(len(vertices), np.float32)
    return {"triangle_index": index.astype(np.int32), "barycentric": barycentric, "weight": weight}


def draw(model: MorphableModel, vertices: np.ndarray, path: Path) -> None:
    """Draw dense points (grey) and new points (red) on the mean head from three sides."""
    assert model.dense478 is not None
    size, views = 640, []
    dense = model.dense478.points(model.mean, model.triangles)
    for yaw in (0.0, 45.0, 85.0):
        view = camera(yaw, 0.0, size)
        points = view.project(model.mean)
        depth = rasterize(points, model.triangles, (size, size)).depth
        shade = torch.where(depth > 0, (1.65 - depth).clamp(0, 1) * 2, 0.0)
        image = (shade.clamp(0, 1) * 200).to(torch.uint8)[..., None].repeat(1, 1, 3).numpy()
        for group, colour in (
            (view.project(dense), (90, 90, 255)),
            (points[vertices], (255, 40, 40)),
        ):
            for x, y, z in group.tolist():
                if 2 <= x < size - 2 and 2 <= y < size - 2 and z < depth[int(y), int(x)] + 0.006:
                    image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = colour
        views.append(image)
    Image.fromarray(np.concatenate(views, 1)).save(path)


if __name__ == "__main__":
    main()
