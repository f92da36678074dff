"""Print how well systems separate light and albedo of held-out drawn faces.

    python benchmarks/separation.py conditional=weights.safetensors direct_regression --bank FOLDER

Shading energy: spread of the predicted shading over skin, relative to the true one, by the scale of the
albedo; 1 is right, near 0 the light is constant. Albedo: error over the same skin after one scale, in percent. Hidden: error of the
texels of face, ears and neck that the photo does not show, by the scale of those that it shows, where
the bank has albedo in UV (`lifemask draw --maps`). Photo: mean
distance in sRGB between photo and drawing over skin; a system that copies the photo into its albedo has
the smallest one, so it says little without the others. All are means over faces. The row `truth` is the
true face with its own albedo coefficients and nearest light: what no coefficients can beat.
"""

import argparse
import math
from dataclasses import replace
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
from lifemask.rendering.filters import resized
from lifemask.rendering.heads import head_surface, head_texture, render_head
from lifemask.systems.registry import load_system
from lifemask.systems.unwrapped_faces import unwrapped_faces
from lifemask.texture.atlas import head_atlas
from lifemask.training.passes import predict_batches
from lifemask.training.system import System

SMALLEST_SKIN = 50
"""Pixels of skin that a face needs."""
_HIDDEN = 0.02
"""Texels that the photo shows less are hidden."""

Figures = tuple[float, float, float, float]
"""Energy, albedo error, photo distance and error of hidden texels."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("systems", nargs="+", help="NAME or NAME=WEIGHTS")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument(
        "--held-out", type=float, default=0.02, help="share of the bank to measure on"
    )
    parser.add_argument(
        "--parts", type=int, nargs="*", default=(), help="of the bank; default: all"
    )
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':40} energy  albedo %  hidden %  photo")
    for number, choice in enumerate(options.systems):
        name, _, weights = choice.partition("=")
        system = load_system(name, weights=Path(weights) if weights else None)
        rows, true_rows = measured(system, options)
        if number == 0:
            report("truth", true_rows)
        report(choice, rows)


def report(name: str, rows: list[Figures]) -> None:
    """Print the means of one system."""
    energy, albedo, photo, hidden = np.nanmean(np.array(rows), axis=0)
    figures = f"{energy:6.2f} {albedo:9.1f} {hidden:9.1f} {photo:6.3f}"
    print(f"{name[-40:]:40} {figures}  ({len(rows)} faces)")


@torch.no_grad()
def measured(system: System, options: argparse.Namespace) -> tuple[list[Figures], list[Figures]]:
    """Return the figures of predictions, and of the truth."""
    folder: Path = options.bank
    share: float = options.held_out
    _, held_out = open_bank(folder, parts=options.parts, held_out=share, any_version=True)
    side = read_plan(folder).side
    rows, true_rows = [], []
    for index in range(min(options.count, len(held_out))):
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
        (face,) = predict_batches(system, [batch])
        hidden = hidden_error(system.model, face, batch)
        rows.append((*errors(render(system.model, face), truth, batch, skin), hidden))
        bare = replace(batch.truth.face, albedo_map=None)
        hidden = hidden_error(system.model, bare, batch)
        true_rows.append((*errors(truth, truth, batch, skin), hidden))
    return rows, true_rows


def hidden_error(model: MorphableModel, face: ExplainedFace, batch: FaceBatch) -> float:
    """Return the error of hidden skin of one face, percent; NaN without truth or hidden skin."""
    truth = batch.truth
    if truth is None or truth.face.albedo_map is None:
        return math.nan
    true, coverage = truth.face.albedo_map.values[0], truth.face.albedo_map.coverage[0]
    atlas = head_atlas(model, true.shape[-1])
    seen = unwrapped_faces(batch.photo, batch.skin, truth.face, model, atlas.fragments).weight[0]
    skin = (atlas.skin * (1 - atlas.regions["scalp"]) > 0.5) & (coverage > 0.5)
    texture = head_texture(model, face)
    assert texture is not None
    given = resized(texture[0], true.shape[-1])
    shown, hidden = skin & (seen > 0.5), skin & (seen < _HIDDEN)
    if min(int(shown.sum()), int(hidden.sum())) < SMALLEST_SKIN:
        return math.nan
    scale = best_scale(given[:, shown].numpy(), true[:, shown].numpy())
    return relative_rms(scale * given[:, hidden].numpy(), true[:, hidden].numpy())


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
        shading_energy(shading / scale, true_shading, skin),
        relative_rms(scale * albedo[skin], true_albedo[skin]),
        float((drawn - photo).norm(dim=-1).mean()),
    )


def image(part: Tensor) -> NDArray[np.float32]:
    """Return the first picture, channels last."""
    return part[0].movedim(0, -1).numpy()


if __name__ == "__main__":
    main()
