"""Print how well systems separate light and albedo of held-out drawn faces.

    python benchmarks/separation.py conditional=weights.safetensors direct_regression --bank FOLDER

Shading energy: spread of the predicted shading over skin, relative to the true one; 1 is right, near 0
the light is constant. Albedo: error over the same skin after one scale, in percent. Photo: mean
distance in sRGB between photo and drawing over skin; a system that copies the photo into its albedo has
the smallest one, so it says little without the others. All are means over faces. The row `truth` is the
true face with its own albedo coefficients and nearest light: what no coefficients can beat.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifemask.data.augmentation import augmented
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.faces import open_bank
from lifemask.data.bank.plan import read_plan
from lifemask.data.batch import FaceBatch
from lifemask.evaluation.metrics.appearance_error import (
    best_scale,
    nearest_filled,
    relative_rms,
    shading_energy,
)
from lifemask.io.colour import srgb_from_linear
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.heads import head_surface, render_head
from lifemask.systems.registry import load_system
from lifemask.training.passes import predict_batches
from lifemask.training.system import System

SMALLEST_SKIN = 50
"""Pixels of skin that a face needs."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("systems", nargs="+", help="NAME or NAME=WEIGHTS")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument(
        "--held-out", type=float, default=0.02, help="share of the bank to measure on"
    )
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':40} energy  albedo %  photo")
    for number, choice in enumerate(options.systems):
        name, _, weights = choice.partition("=")
        system = load_system(name, weights=Path(weights) if weights else None)
        rows, true_rows = measured(system, options.bank, options.held_out, options.count)
        if number == 0:
            report("truth", true_rows)
        report(choice, rows)


def report(name: str, rows: list[tuple[float, float, float]]) -> None:
    """Print the means of one system."""
    energy, albedo, photo = np.nanmean(np.array(rows), axis=0)
    print(f"{name[-40:]:40} {energy:6.2f} {albedo:9.1f} {photo:6.3f}  ({len(rows)} faces)")


@torch.no_grad()
def measured(
    system: System, folder: Path, share: float, count: int
) -> tuple[list[tuple[float, float, float]], list[tuple[float, float, float]]]:
    """Return energy, albedo error and photo distance of predictions, and of the truth."""
    _, held_out = open_bank(folder, held_out=share, any_version=True)
    side = read_plan(folder).side
    rows, true_rows = [], []
    for index in range(min(count, len(held_out))):
        batch = augmented(
            held_out.batch(index, 1),
            Augmentation.none(),
            torch.Generator(),
            side=side,
            size=system.crop_size,
        )
        assert batch.truth is not None
        truth = render(system.model, batch.truth.face)
        skin = ((batch.skin > 0.5)[0] & (truth[2][0] > 0)).numpy()
        if skin.sum() < SMALLEST_SKIN:
            continue
        rows.append(
            errors(render(system.model, predict_batches(system, [batch])[0]), truth, batch, skin)
        )
        true_rows.append(errors(truth, truth, batch, skin))
    return rows, true_rows


def render(model: MorphableModel, face: ExplainedFace) -> tuple[Tensor, Tensor, Tensor]:
    """Return albedo, shading and mask of faces in their image."""
    drawn = render_head(head_surface(model, face), face.camera, face.light).fine
    return drawn.albedo, drawn.shading, drawn.mask


def errors(
    found: tuple[Tensor, Tensor, Tensor],
    truth: tuple[Tensor, Tensor, Tensor],
    batch: FaceBatch,
    skin: NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Return the three figures of one face."""
    answered = found[2][0].numpy() > 0
    albedo, shading = (nearest_filled(image(part), answered) for part in found[:2])
    true_albedo, true_shading = image(truth[0]), image(truth[1])
    scale = best_scale(albedo[skin], true_albedo[skin])
    drawn = srgb_from_linear(torch.from_numpy((albedo * shading)[skin]))
    photo = srgb_from_linear(batch.photo[0].movedim(0, -1)[torch.from_numpy(skin)])
    return (
        shading_energy(shading, true_shading, skin),
        relative_rms(scale * albedo[skin], true_albedo[skin]),
        float((drawn - photo).norm(dim=-1).mean()),
    )


def image(part: Tensor) -> NDArray[np.float32]:
    """Return the first picture, channels last."""
    return part[0].movedim(0, -1).numpy()


if __name__ == "__main__":
    main()
