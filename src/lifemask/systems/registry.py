"""Systems and their recipes by name: untrained ones to train, released ones to use."""

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import getmembers, isclass, signature
from pathlib import Path
from typing import Any

import torch

from lifemask.geometry.precision import single_precision
from lifemask.networks.released import read_released, read_weights
from lifemask.perception.onnx_runtime import Runtime
from lifemask.training.config import Recipe, TrainingError
from lifemask.training.system import System
from lifemask.training.weights import load_weights

logger = logging.getLogger(__name__)

SYSTEMS: dict[str, str] = {
    "coarse_fine": "lifemask.systems.coarse_fine",
    "conditional": "lifemask.systems.conditional",
    "dense_landmarks": "lifemask.systems.dense_landmarks",
    "direct_regression": "lifemask.systems.direct_regression",
    "flagship": "lifemask.systems.flagship",
    "landmark_assisted": "lifemask.systems.landmark_assisted",
    "rerenderable_albedo": "lifemask.systems.rerenderable_albedo",
    "skin_relief": "lifemask.systems.skin_relief",
    "uv_displacement": "lifemask.systems.uv_displacement",
}
"""The module of each system; a module is imported when its system is used. It holds one `System` of
that name, and `RECIPES`: functions without arguments. Their names are the names of the recipes, and
start with the name of the system."""

DEFAULT_SYSTEM = "flagship"
"""The system from whose predictions `lifemask reconstruct` starts."""

RELIEF_SYSTEM = "skin_relief"
"""The second stage that adds the relief of the skin to fitted faces."""

ALBEDO_SYSTEM = "rerenderable_albedo"
"""The second stage that separates skin and light of fitted faces; fits take its shadows."""

_FORMER_RECIPES = {"direct_regression_profiled": "direct_regression_rerendered"}


SECOND_STAGES = frozenset({ALBEDO_SYSTEM, RELIEF_SYSTEM})
"""Systems that refine the faces of others, and find none themselves."""


def system_names() -> list[str]:
    """Return the names of all systems."""
    return sorted(SYSTEMS)


def first_stages() -> list[str]:
    """Return the names of the systems that predict faces from photos alone."""
    return sorted(SYSTEMS.keys() - SECOND_STAGES)


def check_first_stage(name: str) -> None:
    """Raise unless a system predicts faces from photos alone.

    Raises:
        ValueError: unknown name, or a second stage; the message lists what to choose from.
    """
    known = first_stages()
    if name in SECOND_STAGES:
        raise ValueError(
            f"{name!r} refines the faces of another system. Choose a system that predicts them: "
            f"{', '.join(known)}."
        )
    if name not in known:
        raise ValueError(f"Unknown system {name!r}. Known: {', '.join(known)}.")


def system_class(name: str) -> type[System]:
    """Return the class of a system.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in SYSTEMS:
        raise ValueError(f"Unknown system {name!r}. Known: {', '.join(system_names())}.")
    module = import_module(SYSTEMS[name])
    for _, kind in getmembers(module, isclass):
        if issubclass(kind, System) and kind is not System and kind.name == name:
            return kind
    raise ValueError(f"{SYSTEMS[name]} holds no System of the name {name!r}.")


def build_system(name: str, options: Mapping[str, Any] | None = None) -> System:
    """Return an untrained system on the default head.

    Args:
        name: one of `system_names()`.
        options: arguments of the system's `build`; the others have their defaults.

    Raises:
        ValueError: unknown name or option.
    """
    build: Callable[..., System] = getattr(system_class(name), "build")  # noqa: B009
    known = signature(build).parameters
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(
            f"System {name!r} has no option {', '.join(unknown)}. It has: {', '.join(known)}."
        )
    return build(**(options or {}))


@single_precision()
def load_system(
    name: str,
    device: torch.device | str = "cpu",
    *,
    weights: Path | None = None,
    runtime: Runtime = "torch",
) -> System:
    """Return a trained system, ready to use: frozen, in float32.

    Args:
        name: one of `system_names()`.
        device: where it runs.
        weights: a file that a training wrote; by default those that ship with the package.
        runtime: of the convolutions; "onnxruntime" is faster on a CPU, for systems that can be exported
            and the weights that ship. It agrees with torch within a tested tolerance.

    Raises:
        ImportError: onnxruntime is asked for and not installed.
        ValueError: unknown name, weights of another system, or onnxruntime with another device or file.
        AssetError: no weights of this system ship with the package, or they are damaged.
    """
    if runtime == "onnxruntime" and (weights is not None or torch.device(device).type != "cpu"):
        raise ValueError(
            "ONNX Runtime is for the weights that ship with the package, on the CPU. "
            "Leave out the file and the device, or use torch."
        )
    kind = system_class(name)
    released = read_released(name) if weights is None else read_weights(weights)
    if released.system != name:
        raise ValueError(f"{weights} holds weights of {released.system!r}, not of {name!r}.")
    options = dict(released.options)
    if "pretrained" in signature(getattr(kind, "build")).parameters:  # noqa: B009
        options["pretrained"] = False
    system = build_system(name, options)
    load_weights(system, released)
    system = system.to(device).eval().requires_grad_(False)
    if runtime == "onnxruntime":
        system.use_onnx_runtime([f"systems/{name}", *system.first_weights])
    return system


def recipe_names() -> list[str]:
    """Return the names of all recipes; this imports every system."""
    return sorted(recipe for name in SYSTEMS for recipe in _recipes(name))


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name. Only its system is imported.

    Raises:
        TrainingError: unknown name; the message lists the known ones.
    """
    if name in _FORMER_RECIPES:
        logger.warning("The recipe %s is now called %s.", name, _FORMER_RECIPES[name])
        name = _FORMER_RECIPES[name]
    for system in sorted(SYSTEMS, key=len, reverse=True):
        if name == system or name.startswith(f"{system}_"):
            found = _recipes(system).get(name)
            if found is not None:
                return found()
    raise TrainingError(f"Unknown recipe {name!r}. Known: {', '.join(recipe_names())}.")


def _recipes(system: str) -> dict[str, Callable[[], Recipe]]:
    functions: tuple[Callable[[], Recipe], ...] = import_module(SYSTEMS[system]).RECIPES
    return {function.__name__: function for function in functions}
