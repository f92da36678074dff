"""The second stage for skin: it learns from drawn faces seen from near, and adds a displacement."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.systems.registry import build_system
from lifemask.systems.relief_patches import SIDE, height_of_normals, relief_patches
from lifemask.systems.skin_relief import SkinRelief
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces


@pytest.fixture(scope="module")
def batch() -> FaceBatch:
    config = SyntheticConfig(size=160, margin=0.7, texture_size=128, samples=1, uniform_yaw=0.1)
    return SyntheticFaces(config).batch(0, 0, 2)


@pytest.fixture
def system() -> SkinRelief:
    torch.manual_seed(0)
    built = build_system("skin_relief", {"crop_size": 160, "width": 4})
    assert isinstance(built, SkinRelief)
    return built


def test_it_learns(system: SkinRelief, batch: FaceBatch) -> None:
    weights = system.phases["main"].weights
    optimiser = torch.optim.AdamW(system.parameters(), 5e-3)
    totals: list[float] = []
    for _ in range(12):
        torch.manual_seed(1)
        (losses,) = system.losses("main", [batch])
        assert set(losses) == set(weights)
        assert all(value.shape == (2,) for value in losses.values())
        total = torch.stack([weights[name] * value.mean() for name, value in losses.items()]).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]
    assert all(parameter.grad is not None for parameter in system.parameters())


def test_an_untrained_one_only_smooths_the_head(system: SkinRelief, batch: FaceBatch) -> None:
    system.eval()
    with torch.no_grad():
        (face,) = predict_batches(system, [batch])
    assert face.displacement_map is not None
    assert batch.truth is not None
    assert torch.equal(face.coefficients.identity, batch.truth.face.coefficients.identity)
    height = face.displacement_map.values
    assert height.isfinite().all()
    assert height.abs().mean() < 1e-4


def test_windows_hold_what_belongs_together(system: SkinRelief, batch: FaceBatch) -> None:
    torch.manual_seed(3)
    patches = relief_patches(batch, system.model, 4)
    assert patches.log_photo.shape == (8, 1, SIDE, SIDE)
    skin = patches.skin[:, 0] > 0
    assert skin.any()
    lengths = patches.normals.norm(dim=1)[skin]
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    # The smooth head is wrong, but it is the same head.
    nearness = (patches.normals * patches.smooth).sum(1)[skin]
    assert nearness.mean() > 0.9
    assert nearness.min() < 0.99


def test_the_height_of_normals_is_that_which_has_them() -> None:
    rows, columns = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    bump = 3 * torch.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / 200)
    height = bump - 2 * torch.exp(-((columns - 70 - 0.1 * rows) ** 2) / 18) + 0.01 * columns
    down, right = torch.gradient(height)
    normals = torch.nn.functional.normalize(
        torch.stack([-right, down, torch.ones_like(down)]), dim=0
    )
    found = height_of_normals(normals[None])[0, 0]
    away = (found - found.mean()) - (height - height.mean())
    assert away.abs().max() < 0.05


def test_without_maps_of_pixels_it_says_how_to_draw_them(
    system: SkinRelief, batch: FaceBatch
) -> None:
    assert batch.truth is not None
    bare = replace(batch, truth=replace(batch.truth, normals=None))
    with pytest.raises(ValueError, match="--pixel-maps"):
        system.losses("main", [bare])


def test_without_a_face_it_says_what_it_needs(system: SkinRelief, batch: FaceBatch) -> None:
    with pytest.raises(ValueError, match="give it the face"):
        system(FramedFaces(batch.photo))
    with pytest.raises(ValueError, match="no known face"):
        predict_batches(system, [replace(batch, truth=None)])
