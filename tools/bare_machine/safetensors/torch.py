"""Files and bytes of tensors, with the functions of the package's module `torch`."""

from pathlib import Path

import torch

from safetensors.plain import deserialize, serialize


def load(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors in the bytes of a file."""
    return deserialize(data)


def load_file(path: str | Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors in a file."""
    return deserialize(Path(path).read_bytes())


def save(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a file."""
    return serialize(tensors, metadata)


def save_file(
    tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to a file."""
    Path(path).write_bytes(serialize(tensors, metadata))
