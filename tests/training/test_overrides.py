"""Recipes are changed by path, and what is wrong is named together with what is allowed."""

import pytest

from lifemask.data.augmentation_config import Augmentation
from lifemask.training.config import (
    PhotoSource,
    Recipe,
    SystemChoice,
    TrainingError,
    differences,
    recipe_document,
    recipe_hash,
)
from lifemask.training.overrides import allowed_paths, with_overrides
from lifemask.training.recipes import find_recipe, recipe_names


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        "test", "For tests.", SystemChoice("toy", {"size": 3}),
        {"photos": PhotoSource(1.0)}, {"a": 1.0}, precision="bfloat16",
    )  # fmt: skip


def test_values_take_the_type_of_their_field(recipe: Recipe) -> None:
    changed = with_overrides(
        recipe,
        [
            "optimiser.learning_rate=2e-5", "optimiser.betas=0.8,0.9", "batch_size=7",
            "precision=float16", "schedule.steps=none", "schedule.minutes=12", "weights.a=0",
            "sources.photos.shards=a.tar,b.tar", "sources.photos.augmentation.mirror=0.25",
            "system.options.size=5", "system.options.fast=true", "start_from=w.safetensors",
        ],
    )  # fmt: skip
    assert changed.optimiser.learning_rate == 2e-5
    assert changed.optimiser.betas == (0.8, 0.9)
    assert (changed.batch_size, changed.precision) == (7, "float16")
    assert (changed.schedule.steps, changed.schedule.minutes) == (None, 12.0)
    assert changed.weights == {"a": 0.0}
    photos = changed.sources["photos"]
    assert isinstance(photos, PhotoSource)
    assert photos.shards == ("a.tar", "b.tar")
    assert photos.augmentation == Augmentation(mirror=0.25)
    assert changed.system.options == {"size": 5, "fast": True}
    assert changed.start_from == "w.safetensors"
    assert recipe.batch_size == 64  # the original is as it was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch", "Cannot read 'batch'. Changes look like"),
        ("bach_size=3", r"There is no 'bach_size'\. Known: system\.…, sources\.…"),
        ("optimiser.rate=3", r"no 'rate' in optimiser\. Known: optimiser\.learning_rate"),
        ("weights.b=3", r"no 'b' in weights\. Known: weights\.a\."),
        ("sources.clips.share=3", r"no 'clips' in sources\. Known: sources\.photos"),
        ("batch_size=many", "batch_size cannot be 'many': a whole number is allowed"),
        ("batch_size=1.5", "a whole number is allowed"),
        ("precision=half", "float32, bfloat16, float16 is allowed"),
        ("schedule.steps=soon", "a whole number or none is allowed"),
        ("optimiser.betas=0.9", "a number, several separated by commas"),
        ("optimiser.learning_rate=nan", "a number is allowed"),
        ("sources.photos.tiers=open,secret", "open, research"),
        ("optimiser=adam", "is not one value. Known: optimiser.learning_rate"),
        ("batch_size.x=3", "goes on after a value"),
        ("name=other", "cannot be changed from outside"),
    ],
)
def test_wrong_changes_are_refused_and_say_what_is_allowed(
    recipe: Recipe, change: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        with_overrides(recipe, [change])


def test_what_is_shown_can_be_given_back(recipe: Recipe) -> None:
    shown = allowed_paths(recipe)
    assert "sources.photos.shards=train/open-*.tar" in shown
    assert with_overrides(recipe, shown) == recipe


def test_hash_follows_what_decides_the_outcome(recipe: Recipe) -> None:
    assert recipe_hash(with_overrides(recipe, ["seed=1"])) != recipe_hash(recipe)
    assert recipe_hash(with_overrides(recipe, ["seed=0"])) == recipe_hash(recipe)
    other = with_overrides(recipe, ["weights.a=2", "batch_size=3"])
    assert differences(recipe_document(other), recipe_document(recipe)) == [
        "batch_size: 3, there 64",
        "weights.a: 2.0, there 1.0",
    ]


def test_unknown_recipes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"Unknown recipe 'flagshp'\. Known: direct_regression"):
        find_recipe("flagshp")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_found_under_their_own_name_and_can_be_made_small(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    assert with_overrides(recipe, recipe.smoke) != recipe
