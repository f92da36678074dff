"""Each drawn face fills several places of a batch, each time varied anew."""

from dataclasses import replace

import pytest
import torch

from lifemask.data.augmentation_config import Augmentation
from lifemask.training.builders import build_parts
from lifemask.training.config import TrainingError
from lifemask.training.recipes import find_recipe
from lifemask.training.sources import SyntheticFaceSource, VariedSource, synthetic_config


def test_repeats_show_the_same_faces_in_different_variations() -> None:
    config = synthetic_config({"samples": 1, "texture_size": 64, "dressed": 0.0}, 64)
    source = SyntheticFaceSource(config, seed=3)
    strength = replace(Augmentation.none(), exposure=0.4, shift=0.05)
    batch = VariedSource(source, strength, repeats=3).batch(2, 5)
    drawn = source.batch(2, 2)
    assert batch.person.tolist() == drawn.person[[0, 0, 0, 1, 1]].tolist()
    assert batch.truth is not None
    assert drawn.truth is not None
    identity = batch.truth.coefficients.identity
    assert torch.equal(identity, drawn.truth.coefficients.identity[[0, 0, 0, 1, 1]])
    assert not torch.equal(batch.photo[0], batch.photo[1])
    again = VariedSource(source, strength, repeats=3).batch(2, 5)
    assert torch.equal(batch.photo, again.photo)


def test_repeats_that_make_no_sense_are_refused() -> None:
    recipe = find_recipe("direct_regression")
    synthetic = replace(recipe.sources["synthetic"], repeats=0)
    with pytest.raises(TrainingError, match="repeats is 0; allowed are 1 and more"):
        build_parts(replace(recipe, sources={"synthetic": synthetic}), None)
