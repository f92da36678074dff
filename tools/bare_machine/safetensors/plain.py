"""The file format of safetensors: eight bytes of length, a JSON header, then all values."""

import json
import struct
from pathlib import Path
from typing import Any

import torch

_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {kind: name for name, kind in _TYPES.items()}


class SafetensorError(Exception):
    """The bytes are not in this format."""


class safe_open:  # noqa: N801 - the package's own name
    """A file, open for reading."""

    def __init__(self, path: str | Path, framework: str = "pt", device: str = "cpu") -> None:
        self._header, self._data = _split(Path(path).read_bytes())

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_: object) -> None:
        self._data = b""

    def metadata(self) -> dict[str, str] | None:
        """Return the metadata in the header, or None."""
        return self._header.get("__metadata__")

    def keys(self) -> list[str]:
        """Return the names of the tensors."""
        return sorted(key for key in self._header if key != "__metadata__")

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return the tensor of a name."""
        entry = self._header[name]
        start, stop = entry["data_offsets"]
        data = bytearray(self._data[start:stop])
        kind = _TYPES[entry["dtype"]]
        if not data:
            return torch.empty(entry["shape"], dtype=kind)
        return torch.frombuffer(data, dtype=kind).reshape(entry["shape"])


def serialize(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> bytes:
    """Return tensors as the bytes of a file."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    # Tensors with the largest elements come first, so that each tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    parts: list[bytes] = []
    place = 0
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        part = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + len(part)],
        }
        parts.append(part)
        place += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def deserialize(data: bytes) -> dict[str, torch.Tensor]:
    """Return all tensors in the bytes of a file."""
    reader = object.__new__(safe_open)
    reader._header, reader._data = _split(data)
    return {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        rest = data[8 + length :]
        ends = [e["data_offsets"][1] for k, e in header.items() if k != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise SafetensorError(f"the header is damaged ({error})") from error
    if max(ends, default=0) != len(rest):
        raise SafetensorError("the file is cut off")
    return header, rest
