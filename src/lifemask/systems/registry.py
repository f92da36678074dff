"""Systems by name: untrained ones to train, released ones to use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from lifemask.systems.released import read_released, read_weights
from lifemask.systems.system import System

_HOMES = {"direct_regression": "lifemask.systems.direct_regression:DirectRegression"}
"""Module and class of each system; only what is asked for is imported."""


def system_names() -> list[str]:
    """Return the names of all systems."""
    return sorted(_HOMES)


def build_system(name: str, options: Mapping[str, Any] | None = None) -> System:
    """Return an untrained system on the default head.

    Args:
        name: one of `system_names()`.
        options: what the system's `build` takes; the rest has its defaults.

    Raises:
        ValueError: unknown name or option.
    """
    if name not in _HOMES:
        raise ValueError(f"Unknown system {name!r}. Known: {', '.join(system_names())}.")
    module, _, kind = _HOMES[name].partition(":")
    build: Callable[..., System] = getattr(import_module(module), kind).build
    known = signature(build).parameters
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(
            f"System {name!r} has no option {', '.join(unknown)}. It has: {', '.join(known)}."
        )
    return build(**(options or {}))


def load_system(
    name: str, device: torch.device | str = "cpu", *, weights: Path | None = None
) -> System:
    """Return a trained system, ready to use: frozen, in float32.

    Args:
        name: one of `system_names()`.
        device: where it shall run.
        weights: a file that `write_weights` wrote; by default those that ship with the package.

    Raises:
        ValueError: unknown name, or weights of another system.
        AssetError: no weights of this system ship with the package, or they are damaged.
    """
    if name not in _HOMES:
        raise ValueError(f"Unknown system {name!r}. Known: {', '.join(system_names())}.")
    released = read_released(name) if weights is None else read_weights(weights)
    if released.system != name:
        raise ValueError(f"{weights} holds weights of {released.system!r}, not of {name!r}.")
    system = build_system(name, {**released.options, "pretrained": False})
    system.load_state_dict({key: value.float() for key, value in released.tensors.items()})
    return system.to(device).eval().requires_grad_(False)
