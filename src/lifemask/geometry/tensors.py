"""Operations on all tensors in nested dataclasses, lists and dicts: map, join and name them."""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Structure = TypeVar("Structure")


def map_tensors(change: Callable[[Tensor], Tensor], value: Structure) -> Structure:
    """Return a copy of a nested structure with a function applied to every tensor."""
    if isinstance(value, Tensor):
        return typing.cast(Structure, change(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: map_tensors(change, getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changed)
    if type(value) in (list, tuple):
        children = typing.cast(Sequence[Any], value)
        return typing.cast(Any, type(value))(map_tensors(change, child) for child in children)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        children = typing.cast(Sequence[Any], value)
        return typing.cast(Any, type(value))(*(map_tensors(change, child) for child in children))
    if type(value) is dict:
        named = typing.cast(dict[Any, Any], value)
        return typing.cast(Any, {key: map_tensors(change, child) for key, child in named.items()})
    return value


def joined(values: Sequence[Structure]) -> Structure:
    """Return one structure with the tensors of all structures, concatenated along the first axis.

    All other values must be equal.

    Raises:
        ValueError: only some structures have a part, or another value differs.
    """
    first = values[0]
    if isinstance(first, Tensor):
        return typing.cast(Structure, torch.cat(typing.cast(list[Tensor], list(values))))
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        if any(type(value) is not type(first) for value in values):
            raise ValueError("Cannot join: some values have a part that others lack.")
        parts = {
            field.name: joined([getattr(value, field.name) for value in values])
            for field in dataclasses.fields(first)
        }
        return dataclasses.replace(first, **parts)
    if any(value != first for value in values):
        raise ValueError(f"Cannot join: {first!r} differs among the values.")
    return first


def named_tensors(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return all tensors by their path: `truth.camera.focal_pixels`."""
    if isinstance(value, Tensor):
        return {prefix: value}
    found: dict[str, Tensor] = {}
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            path = f"{prefix}.{field.name}" if prefix else field.name
            found |= named_tensors(getattr(value, field.name), path)
    elif isinstance(value, Mapping):
        for key, child in typing.cast(Mapping[str, Any], value).items():
            found |= named_tensors(child, f"{prefix}.{key}" if prefix else str(key))
    return found
