"""Train the profile head of the face mesh network on photos rotated by their own depth.

    python tools/train_profile_points.py --photos ../shared/data/train

FaceMesh-V2 fails on profiles, but its points on near-frontal photos are good and three-dimensional.
Each photo becomes a depth mesh (depth of the points inside the face, a head-like slope around it).
It is rotated by up to 100 degrees, rendered over another background and degraded like typical photos
(crop, light, blur, compression). A copy of the network's last four stages then learns the rotated
points ("face profiling", Zhu et al., "Face alignment across large poses", 2016; there with a fitted
morphable model, here with the network's own points as ground truth).

Only photos under open licences are used: shards `open-*.tar` of WebDataset form (`KEY.jpg`). The tool
runs on one CPU thread in about an hour and a half. It is seeded, but the bits can differ between
machines; the card records the sha256 of the shipped file.
"""

import argparse
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from scipy import ndimage
from torch import Tensor

from lifemask.perception import FacePerception
from lifemask.perception.face_mesh import CROP_SIZE, FaceMeshNetwork
from lifemask.perception.landmarks import FaceMeshTopology
from lifemask.perception.regions import crop_photo, region_side, sample_regions, to_photo
from lifemask.perception.weights import PERCEPTION_ASSETS, load_network
from lifemask.rendering import interpolate, rasterize

SOURCE_SIZE = 320
"""Pixels per side of the crop of a depth mesh; the face covers about two fifths of it."""

GRID_STEP = 2
"""Pixels between neighbouring vertices of a depth mesh."""

VIEWS_PER_MESH = 3


@dataclass(frozen=True)
class DepthMesh:
    """A photo with depth, in pixels of its own crop; z increases away from the viewer."""

    image: Tensor
    """(3, 320, 320) photo, 0..255."""
    vertices: Tensor
    """(V, 3) vertices of the textured surface; x and y are also their texture coordinates."""
    triangles: Tensor
    """(T, 3) vertex indices."""
    points: Tensor
    """(478, 3) the network's points."""
    centre: Tensor
    """(3,) centre of rotation of the head."""
    width: float
    """Width of the face."""


def depth_meshes_of_photos(folder: Path, perception: FacePerception) -> Iterator[DepthMesh]:
    """Yield a depth mesh of every photo of the open shards with a clear face."""
    for shard in sorted(folder.glob("open-*.tar")):
        with tarfile.open(shard) as packed:
            for member in packed:
                file = packed.extractfile(member) if member.name.endswith(".jpg") else None
                if file is None:
                    continue
                pixels = np.array(Image.open(io.BytesIO(file.read())).convert("RGB"))
                faces = perception.detect(pixels)
                if faces:
                    mesh = _depth_mesh(pixels, perception, faces[0])
                    if mesh:
                        yield mesh


def _depth_mesh(pixels: np.ndarray, perception: FacePerception, face) -> DepthMesh | None:
    seen = perception.observe(pixels, face, quality="fast", segment=True)
    if seen.presence < 0.99 or seen.segmentation is None:
        return None
    region = perception.mesh.region_around(seen.landmarks478, scale=2.4)
    image = crop_photo(pixels, region[None], SOURCE_SIZE, border="border")[0] * 255.0
    scale = SOURCE_SIZE / region_side(region)
    last_row = torch.tensor([[0.0, 0.0, 1.0]])
    from_photo = torch.linalg.inv(torch.cat([region, last_row]))
    flat = to_photo(from_photo[:2], seen.landmarks478[:, :2]) * SOURCE_SIZE
    points = torch.cat([flat, seen.landmarks478[:, 2:] * scale], dim=-1)
    to_segmentation = torch.linalg.inv(torch.cat([seen.segmentation_to_photo, last_row]))
    unit = (to_segmentation @ torch.cat([region, last_row]))[:2]
    background = sample_regions(seen.segmentation, unit[None], SOURCE_SIZE)[0, 0].numpy()
    width = float(points[:468, 0].max() - points[:468, 0].min())

    topology = perception.mesh.topology
    depth, is_face = _depth_inside(points[:468], topology)
    distance, (row, column) = ndimage.distance_transform_edt(~is_face, return_indices=True)
    # Around the face, depth first increases steeply, then approaches that of the head's middle.
    slope = 0.85 * width * (1.0 - np.exp(-distance / (0.2 * width)))
    surface = np.where(is_face, depth, depth[row, column] + slope)
    inner = ndimage.binary_erosion(is_face, iterations=3)
    surface = np.where(inner, surface, ndimage.gaussian_filter(surface, 1.5))
    keep = is_face | ((background < 0.5) & (distance < 0.55 * width))

    steps = np.arange(0, SOURCE_SIZE, GRID_STEP)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    vertices = np.stack([columns + 0.5, rows + 0.5, surface[rows, columns]], -1).reshape(-1, 3)
    count = len(steps)
    corner = (np.arange(count - 1)[:, None] * count + np.arange(count - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + count], axis=1)
    lower = np.stack([corner + 1, corner + count + 1, corner + count], axis=1)
    triangles = np.concatenate([upper, lower])
    triangles = triangles[keep[rows, columns].ravel()[triangles].all(1)]
    centre = points[:468].mean(0) + torch.tensor([0.0, 0.0, 0.25 * width])
    return DepthMesh(
        image,
        torch.from_numpy(vertices).float(),
        torch.from_numpy(triangles),
        points,
        centre,
        width,
    )


def _depth_inside(points: Tensor, topology: FaceMeshTopology) -> tuple[np.ndarray, np.ndarray]:
    lifted = points + torch.tensor([0.0, 0.0, 1000.0])
    fragments = rasterize(lifted, topology.triangles, (SOURCE_SIZE, SOURCE_SIZE), cull="none")
    is_face = (fragments.triangle_index >= 0).numpy()
    return np.where(is_face, fragments.depth.numpy() - 1000.0, 0.0), is_face


def turned_view(
    mesh: DepthMesh, backgrounds: list[DepthMesh], mirror: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a degraded crop (256, 256, 3) of a depth mesh from a new side, and its points."""
    size = CROP_SIZE
    kind = rng.random()
    if kind < 0.25:
        yaw = rng.normal(0.0, 12.0)
    else:
        yaw = rng.choice([-1.0, 1.0]) * rng.uniform(
            *((15.0, 60.0) if kind < 0.5 else (50.0, 100.0))
        )
    rotation = _turn(math.radians(yaw), math.radians(rng.normal(0.0, 9.0)))
    vertices = (mesh.vertices - mesh.centre).numpy() @ rotation.T
    points = (mesh.points - mesh.centre).numpy() @ rotation.T
    distance = mesh.width * rng.uniform(4.0, 20.0)
    for moved in (vertices, points):
        moved[:, :2] *= distance / (distance + moved[:, 2:])

    # The region has the usual errors of a detector: wrong size, shifted, rotated.
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    scale = size / ((high - low).max() * 1.5 * math.exp(rng.uniform(-0.28, 0.3)))
    roll = math.radians(rng.normal(0.0, 14.0))
    tilt = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    middle = size / 2 + rng.uniform(-0.1, 0.1, 2) * size
    for moved in (vertices, points):
        moved[:, :2] = (moved[:, :2] - (low + high) / 2) @ tilt.T + middle
        moved[:, 2] *= scale
    points[:, 2] -= points[:468, 2].mean()

    image = _drawn(mesh, vertices, size)
    background = _background(backgrounds[rng.integers(len(backgrounds))], size, rng)
    image = image[..., :3] * image[..., 3:] + background * (1.0 - image[..., 3:])
    if rng.random() < 0.6:
        image = _tightly_cropped(image, points, rng)
    if rng.random() < 0.15:
        image = _occluded(image, rng)
    if rng.random() < 0.5:
        image, points = image[:, ::-1], points[mirror] * (-1.0, 1.0, 1.0) + (size, 0.0, 0.0)
    return _degraded(image, rng), points.astype(np.float32)


def _turn(yaw: float, pitch: float) -> np.ndarray:
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    return about_y @ np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])


def _drawn(mesh: DepthMesh, vertices: np.ndarray, size: int) -> np.ndarray:
    """Return colours 0..255 and soft coverage 0..1, (size, size, 4)."""
    lifted = torch.from_numpy(vertices + np.array([0.0, 0.0, 4.0 * size])).float()
    fragments = rasterize(lifted, mesh.triangles, (size, size), cull="none")
    place = interpolate(mesh.vertices[:, :2], mesh.triangles, fragments)
    grid = (place / SOURCE_SIZE * 2.0 - 1.0).permute(1, 2, 0)[None]
    colour = F.grid_sample(mesh.image[None], grid, padding_mode="border", align_corners=False)[0]
    covered = ndimage.binary_erosion((fragments.triangle_index >= 0).numpy())
    coverage = ndimage.gaussian_filter(covered.astype(np.float32), 0.7)
    return np.concatenate([colour.permute(1, 2, 0).numpy(), coverage[..., None]], axis=-1)


def _background(other: DepthMesh, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return one colour, or another photo in a low resolution, so that no face is visible."""
    if rng.random() < 0.15:
        return np.full((size, size, 3), rng.uniform(0.0, 255.0, 3))
    coarse = F.adaptive_avg_pool2d(other.image[None], int(rng.choice([2, 4, 8, 16])))
    coarse = coarse.rot90(int(rng.integers(4)), (2, 3))
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return smooth[0].permute(1, 2, 0).numpy()


def _tightly_cropped(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with a box around the face, and the box's edges repeated outside it."""
    size = len(image)
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    extent = (high - low).max()
    left, top = np.clip(low - extent * rng.uniform(-0.06, 0.25, 2), 0, size - 2).astype(int)
    right, bottom = np.clip(high + extent * rng.uniform(-0.06, 0.25, 2), 1, size - 1).astype(int)
    rows = np.clip(np.arange(size), top, max(bottom, top + 1))
    columns = np.clip(np.arange(size), left, max(right, left + 1))
    return image[rows][:, columns]


def _occluded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(image)
    radius, centre = rng.uniform(0.1, 0.35, 2) * size, rng.uniform(0.0, size, 2)
    grid = np.stack(np.mgrid[:size, :size], axis=-1)
    is_covered = (((grid - centre) / radius) ** 2).sum(-1, keepdims=True) < 1.0
    return np.where(is_covered, rng.uniform(0.0, 255.0, 3), image)


def _degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with other exposure and colour, side light, blur, compression and noise."""
    size = len(image)
    image = (np.clip(image, 0.0, 255.0) / 255.0) ** rng.uniform(0.6, 1.6)
    image = (image - 0.5) * rng.uniform(0.7, 1.25) + 0.5 + rng.uniform(-0.12, 0.12)
    image = image * (1.0 + rng.uniform(-0.12, 0.12, 3))
    if rng.random() < 0.12:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    if rng.random() < 0.25:
        angle, strength = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.3, 1.2)
        rows, columns = np.mgrid[:size, :size] / size - 0.5
        light = 1.0 + strength * (math.cos(angle) * columns + math.sin(angle) * rows)
        image = image * np.clip(light, 0.1, 2.0)[..., None]
    picture = Image.fromarray((np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8))
    if rng.random() < 0.75:
        small = int(rng.uniform(48, 170))
        picture = picture.resize((small, small), Image.Resampling.BOX)
        if rng.random() < 0.6:
            packed = io.BytesIO()
            picture.save(packed, "JPEG", quality=int(rng.uniform(40, 95)))
            picture = Image.open(packed)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    image = np.asarray(picture, np.float32)
    if rng.random() < 0.3:
        image = image + rng.normal(0.0, rng.uniform(1.0, 8.0), image.shape)
    return np.clip(image, 0.0, 255.0).astype(np.uint8)


def examples(
    meshes: list[DepthMesh], network: FaceMeshNetwork, mirror: np.ndarray, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the frozen backbone's features (count, 64, 32, 32), float16, and points in pixels."""
    rng = np.random.default_rng(seed)
    features: list[Tensor] = []
    targets: list[Tensor] = []
    while len(targets) * VIEWS_PER_MESH < count:
        mesh = meshes[rng.integers(len(meshes))]
        views = [turned_view(mesh, meshes, mirror, rng) for _ in range(VIEWS_PER_MESH)]
        crops = torch.from_numpy(np.stack([image for image, _ in views])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            features.append(network.trunk(crops.float() / 255.0).half())
        targets.append(torch.from_numpy(np.stack([points for _, points in views])))
    return torch.cat(features)[:count], torch.cat(targets)[:count]


def point_loss(found: Tensor, target: Tensor) -> Tensor:
    """Return smooth L1 in units of the face's extent; depth counts half, and its offset is free."""
    extent = (target[..., :2].amax(1) - target[..., :2].amin(1)).norm(dim=-1) / 1.4
    depth = found[..., 2:] - found[:, :468, 2:].mean(1, keepdim=True)
    difference = (torch.cat([found[..., :2], depth], dim=-1) - target) / extent[:, None, None]
    weights = difference.new_tensor([1.0, 1.0, 0.5])
    zero = torch.zeros_like(difference)
    return (
        (F.smooth_l1_loss(difference, zero, beta=0.02, reduction="none") * weights).sum(-1).mean()
    )


def train(
    network: FaceMeshNetwork, features: Tensor, targets: Tensor, *, steps: int, seed: int
) -> None:
    """Train the profile head, which starts as the frontal head and ends as the moving average."""
    head = network.profile
    head.load_state_dict(network.frontal.state_dict())
    parameters = list(head.requires_grad_(True).parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    peak, batch = 5e-4, 32
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rate = peak * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate + 1e-6
        chosen = torch.randint(len(targets), (batch,), generator=generator)
        loss = point_loss(head(features[chosen].float()) * CROP_SIZE, targets[chosen])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        with torch.no_grad():
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter, 0.01 if step > 200 else 0.1)
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        for average, parameter in zip(averages, parameters, strict=True):
            parameter.copy_(average)


def write(network: FaceMeshNetwork, path: Path) -> None:
    """Write the head in half precision, with its card."""
    state = network.profile.state_dict()
    data = save({f"profile.{name}": value.half().contiguous() for name, value in state.items()})
    path.write_bytes(data)
    teacher = json.loads((PERCEPTION_ASSETS / "face_mesh.card.json").read_text("utf-8"))
    card = {
        "name": f"perception/{path.stem}",
        "version": "1",
        "description": "FaceMesh-V2's last stages, trained further on faces turned to profile",
        "licence": "Apache-2.0",
        "attribution": f"{teacher['attribution']}; trained by lifemask on: {_PHOTO_CREDITS}",
        "sources": [*teacher["sources"], *_PHOTO_SOURCES],
        "sha256": hashlib.sha256(data).hexdigest(),
        "built_by": "tools/train_profile_points.py",
        "used_at": "run time",
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".card.json").write_text(text, encoding="utf-8")


_PHOTO_CREDITS = (
    "Face Research Lab London and Canada sets, DeBruine and Jones, CC BY 4.0; official portraits of "
    "members of the UK Parliament, Open Parliament Licence 3.0 / CC BY 3.0, (c) UK Parliament; "
    "portraits of members of the US Congress (voteview), public domain"
)
_PHOTO_SOURCES = [
    {
        "name": name,
        "version": "not recorded",
        "where": f"{count} photos of the open training shards",
        "sha256": "",
        "licence": licence,
        "licence_text": text,
    }
    for name, count, licence, text in (
        (
            "Face Research Lab London and Canada sets",
            145,
            "CC-BY-4.0",
            "https://creativecommons.org/licenses/by/4.0/",
        ),
        (
            "Official portraits of members of the UK Parliament",
            668,
            "OPL-UK-3.0",
            "https://www.parliament.uk/site-information/copyright-parliament/open-parliament-licence/",
        ),
        ("Portraits of members of the US Congress", 165, "public-domain", ""),
    )
]


def main() -> None:
    """Make depth meshes and views, train the head and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of open-*.tar shards")
    parser.add_argument("--views", type=int, default=9000)
    parser.add_argument("--steps", type=int, default=2100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=PERCEPTION_ASSETS / "face_mesh_profile.safetensors"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    perception = FacePerception.from_pretrained()
    meshes = list(depth_meshes_of_photos(options.photos, perception))
    print(f"{len(meshes)} depth meshes", flush=True)
    network = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    mirror = perception.mesh.topology.mirror.numpy()
    features, targets = examples(meshes, network, mirror, options.views, options.seed)
    print(f"{len(targets)} views", flush=True)
    train(network, features, targets, steps=options.steps, seed=options.seed)
    write(network, options.output)


if __name__ == "__main__":
    main()
