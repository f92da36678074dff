"""Train a small classifier to distinguish photos from synthetic faces, and show its predictions.

    python benchmarks/real_or_synthetic.py [--data DIR] [--fits TAR ...] [--out DIR]

Photos are those of the `open` tier, in the frames of the networks; a part of the people is held
out. The classifier is trained on the others and as many synthetic faces, and evaluated on the
held-out people and on synthetic people of another seed. Photos are portraits; therefore synthetic
faces are near-frontal too, unless --all-poses is given: otherwise the pose alone would distinguish
them. For the same reason hands and masks are left out, and photos get the same camera degradations
as drawn faces, because training data varies more in sharpness and exposure than photos do
(--as-they-are keeps all these differences). With stored fits, half of the synthetic faces have a
photo's blurred background, and re-rendered photos are evaluated separately.

Prints accuracies with 95 % intervals (0.5 is chance) and writes a sheet for each: the sixteen
photos and sixteen drawn faces with the highest confidence, and below them the sixteen largest
errors of each. Takes a few minutes on one core; observations of photos are stored on disk.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.photo_faces import FaceCrops, PhotoFaces, open_photos
from lifemask.data.rerendered import RerenderedFaces
from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.data.synthetic.degradations import photo_degradations, photograph, sample_degradations
from lifemask.io.colour import srgb_from_linear
from lifemask.morphable.assets import read_card

SIZE, SMALL = 224, 112
NEAR_FRONTAL = {"uniform_yaw": 0.0, "pitch_limit_degrees": 15.0, "yaw_limit_degrees": 35.0}
NOTHING_BEFORE = {"hand": 0.0, "held": 0.0, "mask": 0.0}
SHARDS = ("open-frl-*", "open-ukparl-*", "open-voteview-*")


@dataclass(frozen=True)
class Crops:
    """Faces for training and others for evaluation, (N,3,112,112) sRGB in [0, 1]."""

    training: Tensor
    held_out: Tensor


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--fits", type=Path, nargs="*", default=[], help="stores of fits")
    parser.add_argument("--photos", type=int, default=600, help="photos for training")
    parser.add_argument(
        "--evaluated", type=int, default=200, help="faces of each kind for evaluation"
    )
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--limit", type=int, help="use only this many photos")
    parser.add_argument("--all-poses", action="store_true")
    parser.add_argument("--as-they-are", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)

    patterns = [f"train/{name}.tar" for name in SHARDS]
    training, held, _ = open_photos(
        options.data, patterns, tiers=["open"], held_out=0.3,
        crops=FaceCrops(SIZE, 0, Augmentation.none()), limit=options.limit,
    )  # fmt: skip
    config = SyntheticConfig(
        **({} if options.all_poses else NEAR_FRONTAL),
        **({} if options.as_they_are else NOTHING_BEFORE),
    )
    cameras = None if options.as_they_are else config
    photos = Crops(
        _photos(training, options.photos, cameras), _photos(held, options.evaluated, cameras)
    )
    count, evaluated = len(photos.training), len(photos.held_out)
    store = FitStore(options.fits, head=read_card("head/head").sha256) if options.fits else None
    faces = SyntheticFaces(config, surroundings=store)
    kinds = {
        "synthetic": Crops(*(_drawn(faces, s, n) for s, n in ((100, count), (101, evaluated))))
    }
    if store is not None:
        kinds["rerendered"] = _rerendered(store, faces, count, evaluated)
    for name, drawn in kinds.items():
        network = _trained(photos.training, drawn.training, options.steps)
        real, made = (_scores(network, part) for part in (photos.held_out, drawn.held_out))
        right = torch.cat([real > 0, made < 0]).float()
        share, half = right.mean().item(), 1.96 * right.std().item() / math.sqrt(len(right))
        print(
            f"{name}: accuracy {share:.3f} ± {half:.3f} on {len(real)} photos of held-out "
            f"people ({(real > 0).float().mean():.3f}) and {len(made)} drawn faces "
            f"({(made < 0).float().mean():.3f})"
        )
        path = options.out / f"real_or_{name}.png"
        _sheet(photos.held_out, real, drawn.held_out, made).save(path)
        print(f"  {path}")


def _photos(faces: PhotoFaces, count: int, cameras: SyntheticConfig | None) -> Tensor:
    """Return photos, with the camera degradations of a configuration if it is given."""
    places = np.random.default_rng(0).permutation(len(faces))[:count]
    photos = [faces.face(int(k)).photo for k in places]
    if cameras is not None:
        rng = np.random.default_rng(1)
        photos = [_taken_again(photo, rng, cameras) for photo in photos]
    return torch.cat([_reduced(photo) for photo in photos])


def _taken_again(photo: Tensor, rng: np.random.Generator, config: SyntheticConfig) -> Tensor:
    exposure = config.exposure_spread * rng.standard_normal() + 0.06 * rng.standard_normal(3)
    scene = photo[0] * torch.from_numpy(np.exp(exposure)).float()[:, None, None]
    return photograph(scene, photo_degradations(sample_degradations(rng, config)))[None]


def _drawn(faces: SyntheticFaces, seed: int, count: int) -> Tensor:
    return torch.cat([_reduced(faces.batch(seed, k, 8).photo) for k in range(-(-count // 8))])[
        :count
    ]


def _rerendered(store: FitStore, faces: SyntheticFaces, count: int, evaluated: int) -> Crops:
    """Re-render some of the fitted people for training and the others for evaluation."""
    border = int(len(store) * count / (count + evaluated))
    keys = np.random.default_rng(0).permutation(store.keys).tolist()
    parts = []
    for part, number, seed in ((keys[:border], count, 100), (keys[border:], evaluated, 101)):
        store.keys = part
        maker = RerenderedFaces(store, faces)
        batches = [_reduced(maker.batch(seed, k, 8).photo) for k in range(-(-number // 8))]
        parts.append(torch.cat(batches)[:number])
    return Crops(*parts)


def _reduced(photos: Tensor) -> Tensor:
    return F.avg_pool2d(srgb_from_linear(photos), SIZE // SMALL)


def _network() -> nn.Module:
    layers: list[nn.Module] = []
    inside = 3
    for outside in (16, 32, 48, 64):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU()]
        inside = outside
    pooled = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * inside, 1)]
    return nn.Sequential(*layers, *pooled)


def _trained(real: Tensor, made: Tensor, steps: int) -> nn.Module:
    """Return a classifier whose output is above 0 for photos."""
    network = _network()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    truth = torch.cat([torch.ones(16), torch.zeros(16)])
    for _ in range(steps):
        some = [part[torch.randint(len(part), (16,), generator=generator)] for part in (real, made)]
        faces = _varied(torch.cat(some), generator)
        loss = F.binary_cross_entropy_with_logits(network(faces)[:, 0], truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _varied(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Return faces with random mirroring, shift and exposure, because there are few photos."""
    mirrored = torch.rand(len(faces), generator=generator) < 0.5
    faces = torch.where(mirrored[:, None, None, None], faces.flip(-1), faces)
    row, column = torch.randint(0, 9, (2,), generator=generator).tolist()
    faces = F.pad(faces, (4, 4, 4, 4), mode="replicate")
    faces = faces[..., row : row + SMALL, column : column + SMALL]
    gain = 1 + 0.1 * torch.randn(len(faces), 3, 1, 1, generator=generator)
    return (faces * gain).clamp(0, 1)


@torch.no_grad()
def _scores(network: nn.Module, faces: Tensor) -> Tensor:
    return torch.cat([network(part)[:, 0] for part in faces.split(64)])


def _sheet(real: Tensor, real_score: Tensor, made: Tensor, made_score: Tensor) -> Image.Image:
    """Return four rows of faces: the surest photos and drawn faces, then the largest errors."""
    rows = [
        real[real_score.argsort(descending=True)[:16]],
        made[made_score.argsort()[:16]],
        real[real_score.argsort()[:16]],
        made[made_score.argsort(descending=True)[:16]],
    ]
    strips = [torch.cat([torch.cat(list(part), -1) for part in row.split(8)], -2) for row in rows]
    gap = torch.ones(3, 6, strips[0].shape[-1])
    spaced = [piece for strip in strips for piece in (strip, gap)][:-1]
    return Image.fromarray((torch.cat(spaced, -2) * 255).round().byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    main()
