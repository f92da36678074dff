"""Recipes by name: functions that say all of a training in one value."""

from collections.abc import Callable
from dataclasses import replace

from lifemask.data.augmentation_config import Augmentation
from lifemask.training.config import (
    Optimiser,
    PhotoSource,
    ProfiledSource,
    Recipe,
    Schedule,
    SyntheticSource,
    SystemChoice,
    TrainingError,
)

CROP_SIZE = 160
"""Pixels on a side of the crops that the direct regressor looks at."""


def direct_regression() -> Recipe:
    """Return the plain regressor's recipe: faces with full truth, nothing else."""
    return Recipe(
        name="direct_regression",
        description="Photo to coefficients, pose and light, learned from synthetic faces alone.",
        system=SystemChoice("direct_regression", {"crop_size": CROP_SIZE}),
        sources={"synthetic": SyntheticSource(1.0)},
        weights={
            "landmarks478": 10.0,
            "landmarks68": 5.0,
            "aflw21": 5.0,
            "shape": 5.0,
            "posed_shape": 5.0,
            "identity": 0.1,
            "expression": 2.0,
            "gaze": 0.3,
            "albedo": 0.1,
            "rotation": 1.0,
            "place": 2.0,
            "size": 1.0,
            "distance": 0.1,
            "light": 0.3,
            "prior": 0.01,
        },
        batch_size=32,
        optimiser=Optimiser(learning_rate=1e-3, learning_rate_factors={"regressor.features": 0.3}),
        schedule=Schedule(steps=60_000, warmup_steps=200),
        smoke=(
            "system.options.crop_size=96",
            "system.options.input_size=128",
            "system.options.hidden=32",
            "sources.synthetic.options.samples=1",
            "sources.synthetic.options.texture_size=64",
        ),
    )


def direct_regression_profiled() -> Recipe:
    """Return the plain regressor's recipe with fitted photos drawn anew: what proves the ground.

    Half as many turned faces again as otherwise, for they are the hard ones; drawn with less care,
    for more faces teach more than finer ones; each three times, in other frames, colours and cuts.
    """
    plain = direct_regression()
    fits = ("fits/open-*.tar",)
    drawing = {"uniform_yaw": 0.7, "samples": 1, "texture_size": 64}
    varied = replace(
        Augmentation.patches(),
        mirror=0.5,
        shift=0.05,
        scale=0.1,
        turn_degrees=12.0,
        exposure=0.35,
        tint=0.1,
        gamma=0.25,
        grey=0.12,
        cut=0.25,
    )
    return Recipe(
        name="direct_regression_profiled",
        description="As direct_regression, with two fifths of each batch fitted photos, turned.",
        system=plain.system,
        sources={
            "synthetic": SyntheticSource(
                3.0, options=drawing, stores=fits, augmentation=varied, repeats=3
            ),
            "profiled": ProfiledSource(
                2.0, stores=fits, options=drawing, augmentation=varied, repeats=3
            ),
        },
        weights=plain.weights,
        batch_size=45,
        optimiser=plain.optimiser,
        schedule=plain.schedule,
        smoke=(
            *plain.smoke,
            "sources.profiled.options.samples=1",
            "sources.profiled.options.texture_size=64",
        ),
    )


def direct_regression_photos() -> Recipe:
    """Return the plain regressor's recipe with open photos, of which landmarks are known."""
    plain = direct_regression()
    return Recipe(
        name="direct_regression_photos",
        description="As direct_regression, with a quarter of each batch open photos.",
        system=plain.system,
        sources={
            **plain.sources,
            "photos": PhotoSource(0.33, augmentation=Augmentation()),
        },
        weights=plain.weights,
        batch_size=plain.batch_size,
        optimiser=plain.optimiser,
        schedule=plain.schedule,
        smoke=(*plain.smoke, "sources.photos.limit=16", "sources.photos.held_out=0.3"),
    )


_RECIPES: dict[str, Callable[[], Recipe]] = {
    "direct_regression": direct_regression,
    "direct_regression_photos": direct_regression_photos,
    "direct_regression_profiled": direct_regression_profiled,
}


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(_RECIPES)


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        TrainingError: there is none of that name; says which there are.
    """
    if name not in _RECIPES:
        raise TrainingError(f"Unknown recipe {name!r}. Known: {', '.join(recipe_names())}.")
    return _RECIPES[name]()
