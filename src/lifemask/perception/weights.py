"""Loads converted weights into the perception networks."""

import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from lifemask.morphable.assets import ASSETS, load_asset

PERCEPTION_ASSETS = ASSETS / "perception"
"""The weights that ship with the package."""

Module = TypeVar("Module", bound=nn.Module)


def cache_directory() -> Path:
    """Return the folder for built weights: `LIFEMASK_CACHE`, else `~/.cache/lifemask`."""
    return Path(os.environ.get("LIFEMASK_CACHE") or Path.home() / ".cache" / "lifemask")


def load_network(network: Module, *names: str, device: str | torch.device = "cpu") -> Module:
    """Fill a network with shipped weights and return it frozen, in float32.

    Args:
        network: its parameters are the tensors of all named assets.
        names: assets under `perception/`.
        device: the network's device.
    """
    weights: dict[str, Tensor] = {}
    for name in names:
        weights |= load_asset(f"perception/{name}")
    return _filled(network, weights, device)


def load_cached_network(network: Module, name: str, device: str | torch.device = "cpu") -> Module:
    """Fill a network with weights from the cache that only training and evaluation need.

    Raises:
        FileNotFoundError: the weights are missing; the message names the command that builds them.
    """
    from safetensors.torch import load_file

    path = cache_directory() / "perception" / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"No weights at {path}. Only training and evaluation need them, and lifemask does not "
            "ship them. Build them once in a checkout of the repository with "
            f"`python tools/convert_perception.py --only {name}`, or set LIFEMASK_CACHE to a "
            "folder that contains them."
        )
    return _filled(network, load_file(path), device)


def _filled(network: Module, weights: dict[str, Tensor], device: str | torch.device) -> Module:
    # Some weights are stored in float16; computation is in float32.
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    network = network.to(device=device)
    # Convolutions on one CPU thread are up to twice as fast with the channels last.
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network.eval().requires_grad_(False)
