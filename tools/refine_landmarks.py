"""Move the head's dense landmarks to their positions in real photos.

Drawn faces give the landmark network's points with an error of one or two millimetres, but the rim of
a lid needs more precision. The head is fitted to portraits under open licences, and the residual that
all people have in common is the error of the point's position on the mesh. Outline and iris points
do not change.

    python tools/refine_landmarks.py --data ../shared/data [--photos 120]

Rewrites `dense478.*` in assets/head/landmarks.safetensors and its card. Run it after
tools/build_landmarks.py and before tools/fix_aflw_points.py.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable import MorphableModel
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.perception import FaceObservation, FacePerception
from lifemask.perception.correspondences import FACE_OVAL
from lifemask.registration import TriangleSurface

LANDMARKS = Path(__file__).parent.parent / "src/lifemask/assets/head/landmarks.safetensors"
ROUNDS = 3
FARTHEST_METRES = 0.003
"""Largest motion of a point in one round."""
FIRST_IRIS = 468


def main() -> None:
    """Observe once, then alternately fit and move points, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--photos", type=int, default=120)
    parser.add_argument("--landmarks", type=Path, default=LANDMARKS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    perception = FacePerception.from_pretrained()
    seen = observe_portraits(perception, arguments.data, arguments.photos)
    mirror = perception.mesh.topology.mirror
    tensors = load_file(arguments.landmarks)
    model = MorphableModel.from_pretrained()
    embedding = LandmarkEmbedding(
        tensors["dense478.triangle_index"].long(),
        tensors["dense478.barycentric"].float(),
        tensors["dense478.weight"].float(),
    )
    for _ in range(ROUNDS):
        offsets = common_offsets(model, embedding, seen, mirror)
        print(f"common residual: {1000 * offsets.norm(dim=-1).mean():.2f} mm")
        embedding = moved(model, embedding, offsets)
    tensors["dense478.triangle_index"] = embedding.triangle_index.int()
    tensors["dense478.barycentric"] = embedding.barycentric
    write(tensors, arguments.landmarks)


def observe_portraits(
    perception: FacePerception, data: Path, count: int
) -> list[tuple[np.ndarray, FaceObservation]]:
    """Return portraits under open licences with their observations."""
    seen: list[tuple[np.ndarray, FaceObservation]] = []
    shards = sorted((data / "train").glob("open-*.tar"))
    for shard in shards:
        with tarfile.open(shard) as tar:
            names = [member.name for member in tar if member.name.endswith(".jpg")]
            chosen = np.random.default_rng(0).permutation(len(names))[: count // len(shards)]
            for index in chosen:
                image = Image.open(io.BytesIO(tar.extractfile(names[index]).read()))
                pixels = np.asarray(image.convert("RGB"))
                faces = perception.detect(pixels)
                if faces:
                    observation = perception.observe(
                        pixels, faces[0], quality="full", segment=False, embed=False
                    )
                    seen.append((pixels, observation))
    return seen


def common_offsets(
    model: MorphableModel,
    embedding: LandmarkEmbedding,
    seen: list[tuple[np.ndarray, FaceObservation]],
    mirror: Tensor,
) -> Tensor:
    """Return positions in the photos minus present positions (478, 3), metres in head space."""
    fitter = FaceFitter(model, FitConfig(quality="fast"), dense478=embedding)
    residuals: list[Tensor] = []
    for pixels, observation in seen:
        fit = fitter(pixels, observation)
        placed = embedding.points(model.vertices(fit.face.coefficients), model.triangles)
        image = fit.face.camera.project(placed)
        pixels_off = observation.landmarks478[:, :2] - image[:, :2]
        metres = pixels_off * image[:, 2:] / fit.face.camera.focal_pixels
        in_camera = torch.nn.functional.pad(metres, (0, 1))
        residuals.append(in_camera @ fit.face.camera.world_to_camera[:3, :3])
    offset = torch.stack(residuals).median(dim=0).values
    offset = (offset + offset[mirror] * torch.tensor([-1.0, 1.0, 1.0])) / 2
    offset[list(FACE_OVAL)] = 0
    offset[FIRST_IRIS:] = 0
    length = offset.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return offset * (FARTHEST_METRES / length).clamp(max=1)


def moved(
    model: MorphableModel, embedding: LandmarkEmbedding, offsets: Tensor
) -> LandmarkEmbedding:
    """Return the points moved along the skin of the mean face."""
    places = embedding.points(model.mean, model.triangles) + offsets
    shown = (model.regions["skin"] + model.regions["lips"]) > 0.5
    allowed = shown[model.triangles].all(-1).nonzero().squeeze(-1)
    surface = TriangleSurface(model.triangles[allowed].numpy(), len(model.mean))
    found = surface.closest(model.mean.double().numpy(), places.double().numpy())
    still = offsets.norm(dim=-1) == 0
    index = torch.where(
        still, embedding.triangle_index, allowed[torch.from_numpy(found.triangle_index)]
    )
    weights = torch.from_numpy(found.barycentric).float()
    barycentric = torch.where(still[:, None], embedding.barycentric, weights)
    return LandmarkEmbedding(index, barycentric, embedding.weight)


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the landmark file atomically, and its hash to the card."""
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, path)
    card_path = path.with_suffix("").with_suffix(".card.json")
    card = json.loads(card_path.read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if "refine_landmarks" not in card["built_by"]:
        card["built_by"] += ", tools/refine_landmarks.py"
    card_path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
