"""Files of trained weights: float16 tensors, and in their header which system they are for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lifemask.io.files import write_bytes
from lifemask.morphable.assets import AssetError, asset_path, list_cards, load_asset

FORMAT = "lifemask-system-2"

_READABLE = (FORMAT, "lifemask-system-1")
"""The first format did not list frozen modules; names of weights have changed since."""

_ENTRY = "lifemask"


@dataclass(frozen=True)
class ReleasedWeights:
    """All that makes a trained system."""

    system: str
    """Name of the system."""
    options: Mapping[str, Any]
    """What its `build` takes."""
    tensors: Mapping[str, Tensor]
    """The weights that predictions need, by name."""
    frozen: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digests of the frozen modules that it holds, by name; see `lifemask.networks.frozen`."""


def write_weights(path: Path, released: ReleasedWeights) -> None:
    """Write weights as safetensors: numbers as float16, all else as it is.

    Raises:
        ValueError: a weight is not finite, or too large for float16.
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    stored: dict[str, Tensor] = {}
    for name, tensor in sorted(released.tensors.items()):
        value = tensor.detach().cpu()
        value = value.half() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} is not finite in float16: train with smaller weights.")
        stored[name] = value.contiguous()
    about = {
        "format": FORMAT,
        "system": released.system,
        "options": dict(released.options),
        "frozen": dict(released.frozen),
    }
    # One entry: safetensors writes several in random order, and builds should be repeatable.
    write_bytes(path, save(stored, {_ENTRY: json.dumps(about, sort_keys=True)}))


def read_weights(path: Path) -> ReleasedWeights:
    """Read a file that `write_weights` wrote.

    Raises:
        ValueError: it is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        header = _header(path)
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of weights: {error}.") from error
    return _released(path, header, tensors)


def read_released(system: str) -> ReleasedWeights:
    """Return the weights of a system that ship with the package, checked against their card.

    Raises:
        AssetError: there are none, or the file is damaged.
    """
    name = f"systems/{system}"
    if name not in {card.name for card in list_cards()}:
        raise AssetError(
            f"No weights of {system} ship with lifemask (there is no asset {name!r}). Train it with "
            f"`lifemask train {system}`, and name the file that the training writes."
        )
    tensors = load_asset(name)
    path = asset_path(name)
    return _released(path, _header(path), tensors)


def _header(path: Path) -> Mapping[str, Any]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get(_ENTRY, "{}"))


def _released(
    path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> ReleasedWeights:
    if header.get("format") not in _READABLE:
        raise ValueError(
            f"{path} has the format {header.get('format')!r}; a system's weights have {FORMAT!r}. "
            "They are written by write_weights."
        )
    return ReleasedWeights(header["system"], header["options"], tensors, header.get("frozen", {}))
