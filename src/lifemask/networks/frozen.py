"""Trained modules that help another one and never learn."""

import hashlib
from typing import Any

import torch
from torch import nn


class Frozen(nn.Module):
    """Holds a trained module: it has no parameters to learn and stores nothing.

    For systems that build on another one (a second stage on its first, a refinement on its prior).
    The inner module keeps its evaluation mode, follows `.to(device)`, and is neither in
    `parameters()` nor in `state_dict()`: its own released file holds its weights.
    """

    inner: nn.Module
    """The module."""

    def __init__(self, inner: nn.Module) -> None:
        """Freeze a module, in place."""
        super().__init__()
        # Past the registry of submodules, so that parameters() and state_dict() leave it out.
        object.__setattr__(self, "inner", inner.eval().requires_grad_(False))

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output of the inner module."""
        return self.inner(*inputs, **options)

    def _apply(self, fn: Any, recurse: bool = True) -> "Frozen":
        self.inner._apply(fn, recurse)
        return super()._apply(fn, recurse)


def frozen_digests(module: nn.Module) -> dict[str, str]:
    """Return a digest of the weights of every frozen module inside a module, by its name."""
    return {
        name: weights_digest(part.inner)
        for name, part in module.named_modules()
        if isinstance(part, Frozen)
    }


def weights_digest(module: nn.Module) -> str:
    """Return sixteen hexadecimal digits that change with any weight of a module, frozen ones too."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for name, inner in sorted(frozen_digests(module).items()):
        digest.update(f"{name} {inner}".encode())
    return digest.hexdigest()[:16]
