"""Recipes are changed by path, and errors name the wrong value and the allowed ones."""

import pytest

from lifemask.data.augmentation_config import Augmentation
from lifemask.systems.registry import find_recipe, recipe_names
from lifemask.training.config import (
    Phase,
    PhotoSource,
    Recipe,
    SystemChoice,
    TrainingError,
    differences,
    recipe_document,
    recipe_hash,
)
from lifemask.training.overrides import allowed_paths, with_overrides


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        "test", "For tests.", SystemChoice("toy", {"size": 3}),
        {"photos": PhotoSource(1.0)}, {"main": Phase({"a": 1.0})}, precision="bfloat16",
    )  # fmt: skip


def test_values_take_the_type_of_their_field(recipe: Recipe) -> None:
    changed = with_overrides(
        recipe,
        [
            "phases.main.optimiser.learning_rate=2e-5", "phases.main.optimiser.betas=0.8,0.9",
            "batch_size=7", "phases.main.learns=head,critic",
            "precision=float16", "schedule.steps=none", "schedule.minutes=12", "phases.main.weights.a=0",
            "sources.photos.shards=a.tar,b.tar", "sources.photos.augmentation.mirror=0.25",
            "system.options.size=5", "system.options.fast=true", "start_from=w.safetensors",
        ],
    )  # fmt: skip
    main = changed.phases["main"]
    assert main.optimiser.learning_rate == 2e-5
    assert main.optimiser.betas == (0.8, 0.9)
    assert main.learns == ("head", "critic")
    assert main.weights == {"a": 0.0}
    assert (changed.batch_size, changed.precision) == (7, "float16")
    assert (changed.schedule.steps, changed.schedule.minutes) == (None, 12.0)
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
        (
            "phases.main.optimiser.rate=3",
            r"no 'rate' in phases\.main\.optimiser\. Known: phases\.main\.optimiser\.learning_rate",
        ),
        (
            "phases.main.weights.b=3",
            r"no 'b' in phases\.main\.weights\. Known: phases\.main\.weights\.a\.",
        ),
        ("sources.clips.share=3", r"no 'clips' in sources\. Known: sources\.photos"),
        ("batch_size=many", "batch_size cannot be 'many': a whole number is allowed"),
        ("batch_size=1.5", "a whole number is allowed"),
        ("precision=half", "float32, bfloat16, float16 is allowed"),
        ("schedule.steps=soon", "a whole number or none is allowed"),
        ("phases.main.optimiser.betas=0.9", "a number, several separated by commas"),
        ("phases.main.optimiser.learning_rate=nan", "a number is allowed"),
        ("sources.photos.tiers=open,secret", "open, research"),
        (
            "phases.main.optimiser=adam",
            "is not one value. Known: phases.main.optimiser.learning_rate",
        ),
        ("batch_size.x=3", "goes on after a value"),
        ("name=other", "cannot be changed from outside"),
    ],
)
def test_wrong_changes_are_refused_and_say_what_is_allowed(
    recipe: Recipe, change: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        with_overrides(recipe, [change])


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("weights.landmarks68=2", "phases.main.weights.landmarks68=2"),
        ("weights.place=2", "phases.main.weights.translation=2"),
        ("phases.main.weights.size=2", "phases.main.weights.scale=2"),
        ("optimiser.learning_rate=1e-5", "phases.main.optimiser.learning_rate=1e-5"),
        ("sources.profiled.share=4", "sources.rerendered.share=4"),
    ],
)
def test_former_names_are_read_with_a_note(
    former: str, present: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = find_recipe("direct_regression_rerendered")
    assert with_overrides(recipe, [former]) == with_overrides(recipe, [present])
    assert f"is now called {present.partition('=')[0]}." in caplog.text


def test_a_former_recipe_is_found_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    recipe = find_recipe("direct_regression_profiled")
    assert recipe == find_recipe("direct_regression_rerendered")
    assert "is now called direct_regression_rerendered" in caplog.text


def test_what_is_shown_can_be_given_back(recipe: Recipe) -> None:
    shown = allowed_paths(recipe)
    assert "sources.photos.shards=train/open-*.tar" in shown
    assert with_overrides(recipe, shown) == recipe


def test_hash_follows_what_decides_the_outcome(recipe: Recipe) -> None:
    assert recipe_hash(with_overrides(recipe, ["seed=1"])) != recipe_hash(recipe)
    assert recipe_hash(with_overrides(recipe, ["seed=0"])) == recipe_hash(recipe)
    other = with_overrides(recipe, ["phases.main.weights.a=2", "batch_size=3"])
    assert differences(recipe_document(other), recipe_document(recipe)) == [
        "batch_size: 3, there 64",
        "phases.main.weights.a: 2.0, there 1.0",
    ]


def test_unknown_recipes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"Unknown recipe 'flagshp'\. Known: coarse_fine"):
        find_recipe("flagshp")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_found_under_their_own_name_and_can_be_made_small(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    assert with_overrides(recipe, recipe.smoke) != recipe
