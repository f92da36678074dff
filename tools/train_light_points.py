"""Fit the correction that removes the influence of a photo's light on the dense landmarks.

    python tools/train_light_points.py --photos ../shared/data/train

FaceMesh-V2's points depend on the light: with light from the side, the predicted face rotates towards
the lamp and down by two or three degrees, most of all on tight grey crops. On photos with soft light,
the points are right, so these photos are relit. The head model is fitted, the photo is divided by its
shading and multiplied by that of a random lamp, with cast shadows and some specular light (a "ratio
image", Riklin-Raviv and Shashua, "The quotient image", 2001), then cropped and exposed in many ways.
The points must not change. Only a linear correction of low rank is learned, for the layer that
predicts the points of the frontal head: ridge regression from that layer's input to the error, in
closed form.

Only photos under open licences are used: shards `open-*.tar` of WebDataset form (`KEY.jpg`). The tool
runs on one CPU thread in about fifteen minutes. It is seeded, but the shipped weights were computed
in several parts with other seeds, so the tool gives similar weights, not the same bytes.
"""

import argparse
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.fitting.landmark_fit import PoseAndShape
from lifemask.fitting.photometric import PatchInPhoto, initial_appearance, make_level
from lifemask.fitting.surface import photo_crop, visibility
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.io.colour import linear_from_srgb
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.perception import FacePerception
from lifemask.perception.face_mesh import CROP_SIZE, FaceMeshNetwork
from lifemask.perception.landmarks import FaceMesh
from lifemask.perception.regions import (
    crop_photo,
    mirrored,
    region_side,
    sample_regions,
    square_regions,
    to_photo,
)
from lifemask.perception.weights import PERCEPTION_ASSETS, load_network
from lifemask.rendering import interpolate, rasterize
from lifemask.rendering.filters import gaussian_blur

SOURCE_SIZE = 320
"""Pixels per side of the picture that is relit; the face covers half of it."""

UKPARL_STEP = 3
"""One in this many of the near-identical parliamentary portraits is used."""

SHADOW_MAP_SIZE = 320
SHADOW_MARGIN_METRES = 0.003
BATCH = 16


@dataclass(frozen=True)
class LitFace:
    """A photo with its geometry and light for relighting, in pixels of its own square crop."""

    image: Tensor
    """(3, S, S) linear RGB."""
    normals: Tensor
    """(3, S, S) unit normals in light axes, zero outside the head."""
    covered: Tensor
    """(S, S) 1 on the head."""
    shading: Tensor
    """(3, S, S) shading by the photo's own light."""
    position: Tensor
    """(3, S, S) surface points in camera axes, metres."""
    vertices: Tensor
    """(V, 3) vertices of the head in camera axes, metres."""
    points: Tensor
    """(478, 3) the network's mean points on ten crops of the original photo."""


def lit_faces(folder: Path, perception: FacePerception, fitter: FaceFitter) -> Iterator[LitFace]:
    """Yield every photo of the open shards with a clear face, with its geometry and light."""
    for shard in sorted(folder.glob("open-*.tar")):
        step = UKPARL_STEP if "ukparl" in shard.name else 1
        with tarfile.open(shard) as packed:
            photos = [member for member in packed if member.name.endswith(".jpg")]
            for member in photos[step - 1 :: step]:
                file = packed.extractfile(member)
                if file is None:
                    continue
                pixels = np.array(Image.open(io.BytesIO(file.read())).convert("RGB"))
                face = _lit_face(pixels, perception, fitter)
                if face:
                    yield face


def _lit_face(pixels: np.ndarray, perception: FacePerception, fitter: FaceFitter) -> LitFace | None:
    found = perception.detect(pixels)
    if not found:
        return None
    seen = perception.observe(pixels, found[0], quality="full", segment=True, embed=False)
    if seen.presence < 0.99:
        return None
    fit = fitter(pixels, seen)
    if fit.landmark_error > 0.05:
        return None
    low, high = seen.landmarks478[:, :2].amin(0), seen.landmarks478[:, :2].amax(0)
    middle, side = (low + high) / 2, 2.0 * float((high - low).max())
    corner, scale = middle - side / 2, SOURCE_SIZE / side
    size = (SOURCE_SIZE, SOURCE_SIZE)
    camera = fit.face.camera.cropped(float(corner[0]), float(corner[1]), size, scale)
    model = fitter.model
    head = model.vertices(fit.face.coefficients)
    vertices, triangles = camera.to_camera(head), opaque_mesh(model, head).triangles
    fragments = rasterize(camera.project(head), triangles, size)
    normals = light_axes_from_camera(vertex_normals(vertices, model.triangles))
    normals = F.normalize(interpolate(normals, triangles, fragments), dim=0)
    region = square_regions(middle, torch.tensor(side), torch.zeros(()))
    image = crop_photo(pixels, region[None], SOURCE_SIZE, border="border")[0]

    principal_point = fit.face.camera.principal_point.double()
    modes = fitter.points.identity_modes
    state = PoseAndShape(
        camera.world_to_camera[:3, :3].double(),
        camera.world_to_camera[:3, 3].double(),
        float(fit.face.camera.focal_pixels),
        torch.cat(
            [fit.face.coefficients.identity[:modes], fit.face.coefficients.expression]
        ).double(),
    )
    crop = photo_crop(pixels, state, fitter.patch, principal_point)
    level = make_level(crop.linear, 3.0 * crop.pixels_per_millimetre, crop.corner, crop.scale)
    visible = visibility(state, fitter.patch, model, seen, principal_point)
    in_photo = PatchInPhoto(fitter.patch, level, principal_point, visible)
    light = initial_appearance(state, in_photo).light
    white = SphericalHarmonicsLight(light.mean(-1, keepdim=True).expand(9, 3))
    shading = white.shade(normals.permute(1, 2, 0)).permute(2, 0, 1)
    offset = torch.cat([corner, torch.zeros(1)])
    return LitFace(
        linear_from_srgb(image),
        normals,
        (fragments.triangle_index >= 0).float(),
        shading,
        interpolate(vertices, triangles, fragments),
        vertices,
        (seen.landmarks478 - offset) * scale,
    )


def lamp_reaches(face: LitFace, direction: Tensor, triangles: Tensor, *, softness: float) -> Tensor:
    """Return the share (S, S), 0..1, of a distant lamp's light that the head does not block.

    Args:
        face: the relit photo.
        direction: unit vector to the lamp, light axes.
        triangles: triangles of the head.
        softness: width of the shadow's edge in pixels of the shadow map.
    """
    towards = light_axes_from_camera(direction)
    across = F.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), towards), dim=0)
    turn = torch.stack([across, torch.linalg.cross(towards, across), -towards])
    seen = face.vertices @ turn.T
    low, high = seen[:, :2].amin(0), seen[:, :2].amax(0)
    scale = (SHADOW_MAP_SIZE - 1) / (high - low).max()
    nearest_depth = seen[:, 2].min() - 0.1
    lifted = torch.cat([(seen[:, :2] - low) * scale, seen[:, 2:] - nearest_depth], dim=-1)
    fragments = rasterize(lifted, triangles, (SHADOW_MAP_SIZE, SHADOW_MAP_SIZE), cull="none")
    nearest = torch.where(fragments.triangle_index >= 0, fragments.depth, torch.inf)
    pixels = face.position.reshape(3, -1).T @ turn.T
    places = (pixels[:, :2] - low) * scale / SHADOW_MAP_SIZE * 2 - 1
    depth = pixels[:, 2] - nearest_depth - SHADOW_MARGIN_METRES
    reached = torch.zeros(len(pixels))
    for x in (-1.0, 0.0, 1.0):
        for y in (-1.0, 0.0, 1.0):
            shifted = places + torch.tensor([x, y]) * 2 * softness / SHADOW_MAP_SIZE
            read = F.grid_sample(
                nearest[None, None], shifted[None, None], mode="nearest", padding_mode="border",
                align_corners=False,
            )  # fmt: skip
            reached += (depth < read[0, 0, 0]) / 9.0
    return reached.reshape(face.covered.shape)


def relit(
    face: LitFace,
    direction: Tensor,
    triangles: Tensor,
    *,
    ambient: float,
    gloss: float = 0.0,
    surroundings: float = 0.5,
    softness: float = 1.5,
) -> Tensor:
    """Return the picture (3, S, S), linear, under one lamp and some ambient light.

    Args:
        face: the photo.
        direction: unit vector to the lamp, light axes.
        triangles: triangles of the head.
        ambient: share of ambient light.
        gloss: strength of the lamp's specular light.
        surroundings: shading of pixels far from the head.
        softness: width of shadow edges in pixels of the shadow map.
    """
    facing = (face.normals * direction[:, None, None]).sum(0).clamp(min=0)
    reached = lamp_reaches(face, direction, triangles, softness=softness)
    old = face.shading.mean(0)
    new = ambient + (1 - ambient) * facing * reached
    ratio = new / old.clamp(min=0.15 * float(old.max()))
    half_way = F.normalize(direction + torch.tensor([0.0, 0.0, 1.0]), dim=0)
    highlight = (face.normals * half_way[:, None, None]).sum(0).clamp(min=0) ** 12
    highlight = gloss * highlight * reached * (facing > 0)
    inside = (gaussian_blur(face.covered[None], 2.0)[0] * 2 - 1).clamp(0, 1)
    near = gaussian_blur(face.covered[None], 25.0)[0].clamp(max=1)
    carried = gaussian_blur((ratio * face.covered)[None], 25.0)[0] / near.clamp(min=1e-3)
    level = (old * face.covered).sum() / face.covered.sum().clamp(min=1)
    around = near * carried + (1 - near) * surroundings / level
    return face.image * (inside * ratio + (1 - inside) * around) + highlight * inside


def example(
    face: LitFace, triangles: Tensor, mirror: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return a crop (3, 256, 256), 0..1, under a random lamp, and its points in crop units."""
    image = face.image
    if rng.random() < 0.8:
        image = _in_random_light(face, triangles, rng)
    if rng.random() < 0.5:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = face.points[:468, :2].amin(0), face.points[:468, :2].amax(0)
    left, top, right, bottom = 0, 0, SOURCE_SIZE, SOURCE_SIZE
    if rng.random() < 0.6:
        # Tight crops cut the face, more at the sides than at the chin.
        cut = torch.tensor(rng.uniform(-0.2, 0.13, 4)).float() * (high - low).repeat(2)
        cut[3] *= 0.6
        left, top = (max(0, int(v)) for v in (low + cut[:2]).tolist())
        right, bottom = (min(SOURCE_SIZE, int(v)) for v in (high - cut[2:]).tolist())
    image = _photographed(image[:, top:bottom, left:right], rng)
    side = 1.4 * float((high - low).max())
    region = square_regions(
        (low + high) / 2 + torch.tensor(rng.normal(0.0, 0.025, 2)).float() * side,
        torch.tensor(side * math.exp(rng.normal(0.0, 0.06))),
        torch.tensor(float(rng.normal(0.0, 0.06))),
    )
    is_mirrored = rng.random() < 0.5
    if is_mirrored:
        region = mirrored(region)
    corner = torch.tensor([[0.0, 0.0, left], [0.0, 0.0, top]])
    crop = sample_regions(image, (region - corner)[None], CROP_SIZE, border="border")[0]
    to_region = torch.linalg.inv(torch.cat([region, torch.tensor([[0.0, 0.0, 1.0]])]))[:2]
    depth = face.points[:, 2:] / region_side(region)
    target = torch.cat([to_photo(to_region, face.points[:, :2]), depth], dim=-1)
    return crop, target[mirror] if is_mirrored else target


def _in_random_light(face: LitFace, triangles: Tensor, rng: np.random.Generator) -> Tensor:
    ambient = float(np.exp(rng.uniform(math.log(0.01), math.log(0.4))))
    dark = rng.random() < 0.5
    image = relit(
        face,
        _random_direction(rng),
        triangles,
        ambient=ambient,
        gloss=float(rng.uniform(0.0, 0.15)),
        surroundings=float(rng.uniform(0.0, 0.1) if dark else rng.uniform(0.1, 1.0)),
        softness=float(rng.uniform(0.5, 4.0)),
    )
    if rng.random() < 0.2:
        share = float(rng.uniform(0.2, 0.8))
        second = relit(face, _random_direction(rng), triangles, ambient=ambient, surroundings=0.3)
        image = share * image + (1 - share) * second
    return image


def _random_direction(rng: np.random.Generator) -> Tensor:
    azimuth = rng.uniform(-85.0, 85.0) if rng.random() < 0.8 else rng.normal(0.0, 15.0)
    elevation = rng.uniform(-35.0, 65.0) if abs(azimuth) < 60.0 else rng.uniform(-15.0, 40.0)
    a, e = math.radians(azimuth), math.radians(elevation)
    return torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])


def _photographed(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return an exposed, encoded, blurred and quantised picture of a linear picture."""
    if rng.random() < 0.7:
        bright = float(image.mean(0).flatten()[::7].quantile(0.95))
        exposure = rng.uniform(0.25, 1.1) if rng.random() < 0.7 else 1.0
        image = image * (0.85 * exposure / max(bright, 1e-3))
    else:
        image = image * rng.uniform(0.5, 1.2)
    # Some photos hold linear values, or values between linear and sRGB.
    image = image.clamp(0, 1) ** (1 / 2.2 if rng.random() < 0.5 else rng.uniform(0.4, 1.0))
    if rng.random() < 0.3:
        image = image * torch.tensor(rng.uniform(0.85, 1.1, 3)).float()[:, None, None]
    if rng.random() < 0.5:
        factor = rng.uniform(0.35, 1.0)
        small = [max(24, int(n * factor)) for n in image.shape[1:]]
        reduced = F.interpolate(image[None], small, mode="area")
        image = F.interpolate(reduced, image.shape[1:], mode="bilinear", align_corners=False)[0]
    if rng.random() < 0.3:
        noise = rng.normal(0.0, rng.uniform(0.003, 0.02), tuple(image.shape))
        image = image + torch.from_numpy(noise).float()
    return (image.clamp(0, 1) * 255).round() / 255


@torch.no_grad()
def examples(
    faces: list[LitFace],
    network: FaceMeshNetwork,
    triangles: Tensor,
    mirror: Tensor,
    count: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return the inputs of the point layer (count, 512) and the errors of its points (count, 1434)."""
    rng = np.random.default_rng(seed)
    features: list[Tensor] = []
    errors: list[Tensor] = []
    for _ in range(0, count, BATCH):
        chosen = [faces[rng.integers(len(faces))] for _ in range(BATCH)]
        crops, targets = zip(*(example(f, triangles, mirror, rng) for f in chosen), strict=True)
        images = torch.stack(crops).contiguous(memory_format=torch.channels_last)
        last = network.frontal.stages(network.trunk(images))
        features.append(last.flatten(1))
        errors.append((torch.stack(targets) - network.frontal.read(last)).flatten(1))
    return torch.cat(features), torch.cat(errors)


@dataclass(frozen=True)
class Correction:
    """Correction of the point layer: points += expand @ (reduce @ features) + bias, crop units."""

    reduce: Tensor
    """(rank, 512) features to corrected directions."""
    expand: Tensor
    """(1434, rank) corrected directions to coordinates of points."""
    bias: Tensor
    """(1434,) constant correction."""


def fit_correction(features: Tensor, errors: Tensor, *, rank: int, ridge: float) -> Correction:
    """Return the ridge regression of the errors on the features, reduced to a rank.

    Args:
        features: (N, 512) inputs of the point layer.
        errors: (N, 1434) right minus predicted points.
        rank: number of corrected directions, those that explain most of the regression.
        ridge: strength of the prior on the weights of standardised features.
    """
    middle, spread = features.mean(0), features.std(0) + 1e-6
    inputs = ((features - middle) / spread).double()
    mean = errors.mean(0)
    gram = inputs.T @ inputs + ridge * len(inputs) * torch.eye(inputs.shape[1]).double()
    weights = torch.linalg.solve(gram, inputs.T @ (errors - mean).double())
    covariance = weights.T @ (inputs.T @ inputs) @ weights
    directions = torch.linalg.eigh(covariance).eigenvectors[:, -rank:]
    reduce = ((weights @ directions).T / spread.double()).float()
    expand = directions.float()
    return Correction(reduce, expand, mean - expand @ (reduce @ middle))


def write(correction: Correction, path: Path) -> None:
    """Write the correction in half precision, with its card."""
    # The factors are balanced, so that both stay in the range of half precision.
    scale = correction.reduce.norm(dim=1).sqrt()
    state = {
        "reduce": correction.reduce / scale[:, None],
        "expand": correction.expand * scale,
        "bias": correction.bias,
    }
    data = save({name: value.half().contiguous() for name, value in state.items()})
    path.write_bytes(data)
    teacher = json.loads((PERCEPTION_ASSETS / "face_mesh_profile.card.json").read_text("utf-8"))
    # The photos are from the same sources as those of the profile head, but fewer.
    sources = [
        {**source, "where": "photos of the open training shards"}
        if not source["sha256"]
        else source
        for source in teacher["sources"]
    ]
    card = {
        "name": f"perception/{path.stem}",
        "version": "1",
        "description": "Linear correction that keeps FaceMesh-V2's points in place under side light",
        "licence": "Apache-2.0",
        "attribution": teacher["attribution"],
        "sources": sources,
        "sha256": hashlib.sha256(data).hexdigest(),
        "built_by": "tools/train_light_points.py",
        "used_at": "run time",
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".card.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Read photos, relight them, fit the correction and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of open-*.tar shards")
    parser.add_argument("--examples", type=int, default=5440)
    parser.add_argument("--rank", type=int, default=48)
    parser.add_argument("--ridge", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=PERCEPTION_ASSETS / "face_mesh_light.safetensors"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    perception = FacePerception.from_pretrained()
    # The target points come from the network without a correction.
    perception = replace(perception, mesh=FaceMesh(network, perception.mesh.topology))
    fitter = FaceFitter(MorphableModel.from_pretrained(), FitConfig.preset("fast"))
    faces = list(lit_faces(options.photos, perception, fitter))
    print(f"{len(faces)} faces", flush=True)
    triangles = opaque_mesh(fitter.model, fitter.model.mean).triangles
    mirror = perception.mesh.topology.mirror
    features, errors = examples(faces, network, triangles, mirror, options.examples, options.seed)
    correction = fit_correction(features, errors, rank=options.rank, ridge=options.ridge)
    left = errors - features @ (correction.expand @ correction.reduce).T - correction.bias
    for name, values in (("before", errors), ("after", left)):
        flat = values.view(-1, 478, 3)[:, :468, :2]
        root = float(flat.square().sum(-1).mean().sqrt()) * CROP_SIZE
        print(f"error {name}: {root:.2f} of {CROP_SIZE} pixels", flush=True)
    write(correction, options.output)


if __name__ == "__main__":
    main()
