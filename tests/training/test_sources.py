"""Sources of drawn faces and clips repeat with their seed, vary, and have options."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.mixture import Mixture, mixed_batches
from lifemask.data.stored_fits import StoredFit, write_fits
from lifemask.data.synthetic import SyntheticConfig
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.morphable.assets import read_card
from lifemask.systems.registry import build_system, find_recipe
from lifemask.training.builders import build_parts
from lifemask.training.config import SyntheticSource, SystemChoice, TrainingError
from lifemask.training.sources import (
    SyntheticClipSource,
    SyntheticFaceSource,
    VariedSource,
    synthetic_config,
)


def test_repeats_show_the_same_faces_in_different_variations() -> None:
    config = synthetic_config({"samples": 1, "texture_size": 64, "dressed": 0.0}, 64)
    source = SyntheticFaceSource(config, seed=3)
    strength = replace(Augmentation.none(), exposure=0.4, shift=0.05)
    batch = VariedSource(source, strength, repeats=3).batch(2, 5)
    drawn = source.batch(2, 2)
    assert batch.person.tolist() == drawn.person[[0, 0, 0, 1, 1]].tolist()
    assert batch.truth is not None
    assert drawn.truth is not None
    identity = batch.truth.face.coefficients.identity
    assert torch.equal(identity, drawn.truth.face.coefficients.identity[[0, 0, 0, 1, 1]])
    assert not torch.equal(batch.photo[0], batch.photo[1])
    again = VariedSource(source, strength, repeats=3).batch(2, 5)
    assert torch.equal(batch.photo, again.photo)


def _clips(augmentation: Augmentation, repeats: int = 1) -> VariedSource:
    config = synthetic_config({"samples": 1, "texture_size": 64, "dressed": 0.0}, 64)
    return VariedSource(SyntheticClipSource(config, seed=3, frames=2), augmentation, repeats)


def test_clips_have_frames_as_second_axis_and_one_person() -> None:
    clips = _clips(Augmentation.none()).batch(1, 2)
    faces = SyntheticFaceSource(_clips(Augmentation.none()).source.config, seed=3).batch(1, 2)
    assert clips.photo.shape == (2, 2, 3, 64, 64)
    assert all(value.shape[:2] == (2, 2) for value in named_tensors(clips).values())
    assert torch.equal(clips.person, faces.person[:, None].expand(2, 2))
    assert clips.truth is not None
    identity = clips.truth.face.coefficients.identity
    assert torch.equal(identity[:, 0], identity[:, 1])
    assert not torch.equal(clips.photo[:, 0], clips.photo[:, 1])
    torch.testing.assert_close(clips.landmarks478[:, 0], faces.landmarks478, atol=0.01, rtol=0)


def test_clips_are_mirrored_as_a_whole_and_varied_anew() -> None:
    strength = replace(Augmentation.none(), mirror=0.5)
    drawn = _clips(Augmentation.none()).batch(0, 1)
    varied = _clips(strength, repeats=6).batch(0, 6)
    mirrored = (varied.photo == drawn.photo.flip(-1)).all((2, 3, 4))
    same = (varied.photo == drawn.photo).all((2, 3, 4))
    assert torch.equal(mirrored, ~same)
    assert torch.equal(mirrored[:, 0], mirrored[:, 1])
    assert 0 < mirrored[:, 0].sum() < 6
    shifted = _clips(replace(Augmentation.none(), shift=0.1)).batch(0, 1)
    moved = shifted.landmarks478 - drawn.landmarks478
    assert not torch.allclose(moved[:, 0], moved[:, 1], atol=0.1)


def test_clips_come_from_other_processes_as_from_this_one() -> None:
    source = _clips(replace(Augmentation.none(), mirror=0.5, exposure=0.3))
    mixture = Mixture({"clips": source}, {"clips": 2})
    (here,) = next(mixed_batches(mixture, start=4))
    (there,) = next(mixed_batches(mixture, start=4, workers=1))
    expected = named_tensors(here)
    for name, value in named_tensors(there).items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_repeats_that_make_no_sense_are_refused() -> None:
    recipe = find_recipe("direct_regression")
    synthetic = replace(recipe.sources["synthetic"], repeats=0)
    with pytest.raises(TrainingError, match="repeats is 0; allowed are 1 and more"):
        build_parts(replace(recipe, sources={"synthetic": synthetic}), build_system, None)


def test_options_are_known_under_their_earlier_names(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        config = synthetic_config({"faults": 0.25}, 64)
    assert config == SyntheticConfig(size=64, degradations=0.25)
    assert "option faults of synthetic faces is now called degradations" in caplog.text
    with pytest.raises(TrainingError, match="have no option blemish"):
        synthetic_config({"faults": 0.25, "blemish": 1.0}, 64)


def test_backgrounds_of_stored_fits_are_used_behind_faces(tmp_path: Path) -> None:
    options = {"samples": 1, "texture_size": 64, "dressed": 0.0, "photo_background": 1.0}
    config = synthetic_config(options, 64)
    plain = SyntheticFaceSource(config, seed=3)
    batch = map_tensors(lambda value: value[0], plain.batch(0, 1))
    truth = batch.truth
    assert truth is not None
    fit = StoredFit("somebody", torch.zeros_like(batch.photo), torch.zeros(64, 64), truth.face)
    write_fits(tmp_path / "open-0.tar", [fit], head=read_card("head/head").sha256)
    system = SystemChoice("direct_regression", {"crop_size": 64})
    source = SyntheticSource(1.0, options, stores=("open-*.tar",))
    recipe = replace(find_recipe("direct_regression"), system=system)
    parts = build_parts(replace(recipe, sources={"synthetic": source}), build_system, tmp_path)
    assert parts.about_data["synthetic"]["stores"] == ["open-0.tar"]
    night = SyntheticFaceSource(config, seed=3, stores=(tmp_path / "open-0.tar",)).batch(0, 4)
    behind = plain.batch(0, 4).photo[..., :8, :8].mean()
    assert night.photo[..., :8, :8].mean() < 0.3 * behind
    with pytest.raises(TrainingError, match="Source 'synthetic': There is no"):
        build_parts(
            replace(recipe, sources={"synthetic": source}), build_system, tmp_path / "empty"
        )
