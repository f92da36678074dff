"""Where the converted weights lie, and how they get into the networks."""

import os
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

ASSETS = Path(__file__).parents[1] / "assets" / "perception"
"""The weights that ship with the package."""

Network = TypeVar("Network", bound=nn.Module)


def cache_directory() -> Path:
    """Folder for weights built on request: `LIFEMASK_CACHE`, else `~/.cache/lifemask`."""
    return Path(os.environ.get("LIFEMASK_CACHE") or Path.home() / ".cache" / "lifemask")


def load_network(network: Network, name: str, device: str | torch.device = "cpu") -> Network:
    """Fill a network with shipped weights; ready to use, frozen, in float32."""
    return _filled(network, ASSETS / f"{name}.safetensors", device)


def load_cached_network(network: Network, name: str, device: str | torch.device = "cpu") -> Network:
    """Fill a network with weights that only training and grading need, from the cache.

    Raises:
        FileNotFoundError: with the command that builds the weights, when they are not there.
    """
    path = cache_directory() / "perception" / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"No weights at {path}. They are only needed for training and grading and do not ship "
            f"with lifemask. Build them once with `python tools/convert_perception.py --only "
            f"{name}` in a checkout of the repository, or set LIFEMASK_CACHE to a folder that has "
            "them."
        )
    return _filled(network, path, device)


def _filled(network: Network, path: Path, device: str | torch.device) -> Network:
    # Stored in float16 where that does not hurt; computed in float32.
    weights = {key: value.float() for key, value in load_file(path).items()}
    network.load_state_dict(weights)
    return network.to(device).eval().requires_grad_(False)
