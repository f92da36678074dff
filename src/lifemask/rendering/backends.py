"""The rasterisation backends by name; plain PyTorch is the reference."""

import importlib
import importlib.util
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

BackendName = Literal["auto", "torch", "numba"]

# Which triangles to leave out: those that show their outside ("front") or inside ("back").
Cull = Literal["back", "front", "none"]

_MODULES = {
    "torch": "lifemask.rendering._backends.torch",
    "numba": "lifemask.rendering._backends.numba",
}


def available_backends(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Return the names of the backends that are installed and support `device`, fastest first."""
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and importlib.util.find_spec("numba") is not None:
        return ("numba", "torch")
    return ("torch",)


def load_backend(name: str, device: torch.device) -> ModuleType:
    """Return the backend's module for `device`; "auto" chooses the fastest.

    Raises:
        ValueError: the name is unknown or the backend cannot use the device.
        ImportError: the backend was asked for by name and its package is missing.
    """
    if name == "auto":
        name = available_backends(device)[0]
    if name not in _MODULES:
        raise ValueError(f"Unknown backend {name!r}. Known: 'auto', {sorted(_MODULES)}.")
    if name == "numba" and device.type != "cpu":
        raise ValueError(
            f"The numba backend works on CPU tensors, these are on {device}. "
            "Use backend='auto' or 'torch', or move them with .cpu()."
        )
    return importlib.import_module(_MODULES[name])


def check_indices(triangles: Tensor, vertex_count: int) -> None:
    """Raise before compiled code reads outside an array; on a GPU the driver checks this.

    Raises:
        IndexError: a triangle names a vertex that does not exist.
    """
    if triangles.device.type != "cpu" or triangles.numel() == 0:
        return
    low, high = (int(v) for v in triangles.aminmax())
    if low < 0 or high >= vertex_count:
        raise IndexError(
            f"Triangles index vertices {low} to {high}, but there are {vertex_count} "
            f"(0 to {vertex_count - 1})."
        )
