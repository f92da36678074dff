"""Recipes changed from the command line: `batch_size=16 phases.main.weights.landmarks68=2`."""

import dataclasses
import logging
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from lifemask.training.config import MAIN, Recipe, TrainingError, Value

Config = TypeVar("Config")

logger = logging.getLogger(__name__)

_FIXED = ("name", "description", "smoke")

_FORMER_PATHS = {
    "weights.": f"phases.{MAIN}.weights.",
    "optimiser.": f"phases.{MAIN}.optimiser.",
    "sources.profiled.": "sources.rerendered.",
}
"""Starts of paths as older versions named them -> as they are named now."""

_FORMER_KEYS = {"place": "translation", "size": "scale", "profiled": "rerendered"}
"""Names inside paths as older versions had them; they count where today's recipe has no such key."""


def with_overrides(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Return the recipe with `path=value` assignments applied in order.

    Paths follow the fields, and the names in `sources`, `weights` and `options`; a tuple's
    elements are separated by commas; `none` is nothing.

    Raises:
        TrainingError: no such path, or a value of the wrong kind; says what is allowed.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise TrainingError(f"Cannot read {assignment!r}. Changes look like batch_size=16.")
        path = _present_path(recipe, path)
        if path in _FIXED:
            raise TrainingError(f"{path!r} cannot be changed from outside. {_known(recipe, '')}")
        recipe = _changed(recipe, path.split("."), text, path)
    return recipe


def with_options(config: Config, assignments: Iterable[str]) -> Config:
    """Return any configuration with `name=value` assignments applied in order.

    Raises:
        TrainingError: no such name, or a value of the wrong kind; says what is allowed.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise TrainingError(f"Cannot read {assignment!r}. Options look like uniform_yaw=0.7.")
        config = _changed(config, path.split("."), text, path)
    return config


def _present_path(recipe: Recipe, path: str) -> str:
    """Return a path as it is named now, with a note in the log if that is another one."""
    present = path
    for former, current in _FORMER_PATHS.items():
        if path.startswith(former):
            present = current + path.removeprefix(former)
    node: Any = recipe
    keys = present.split(".")
    for number, key in enumerate(keys):
        children = _children(node) if _is_node(node) else {}
        if key not in children and _FORMER_KEYS.get(key) in children:
            keys[number] = _FORMER_KEYS[key]
        node = children.get(keys[number])
    present = ".".join(keys)
    if present != path:
        logger.warning("%s is now called %s.", path, present)
    return present


def allowed_paths(recipe: Recipe) -> list[str]:
    """Return every path that can be assigned to, with its value: `batch_size=64`."""
    return [
        f"{path}={_as_text(value)}"
        for path, value in _leaves(recipe, "")
        if path.partition(".")[0] not in _FIXED
    ]


def _changed(node: Config, keys: list[str], text: str, path: str) -> Config:
    key, rest = keys[0], keys[1:]
    parent = ".".join(path.split(".")[: -len(keys)])
    children = _children(node)
    if parent.endswith("options") and not rest:
        # What a system or a generator takes is only known to itself; it refuses the unknown.
        children.setdefault(key, None)
    if key not in children:
        where = f" in {parent}" if parent else ""
        raise TrainingError(f"There is no {key!r}{where}. {_known(node, parent)}")
    child = children[key]
    if rest:
        if not _is_node(child):
            raise TrainingError(
                f"{path!r} goes on after a value. Write {path.removesuffix('.' + '.'.join(rest))}=…"
            )
        value = _changed(child, rest, text, path)
    elif _is_node(child):
        raise TrainingError(f"{path!r} is not one value. {_known(child, path)}")
    else:
        value = _parsed(text, _kind(node, key, child), path)
    if isinstance(node, Mapping):
        return typing.cast(Config, {**node, key: value})
    return dataclasses.replace(typing.cast(Any, node), **{key: value})


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) or dataclasses.is_dataclass(value)


def _children(node: Any) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return dict(typing.cast(Mapping[str, Any], node))
    return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}


def _leaves(node: Any, path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, child in _children(node).items():
        below = f"{path}.{key}".lstrip(".")
        found += _leaves(child, below) if _is_node(child) else [(below, child)]
    return found


def _known(node: Any, path: str) -> str:
    prefix = f"{path}." if path else ""
    names = [
        f"{prefix}{key}{'.…' if _is_node(child) else ''}"
        for key, child in _children(node).items()
        if path or key not in _FIXED
    ]
    return f"Known: {', '.join(names)}." if names else "It has no entries."


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_as_text(item) for item in typing.cast(tuple[Any, ...], value))
    return "none" if value is None else str(value)


def _kind(node: Any, key: str, value: Any) -> Any:
    """Return the declared type of a field; of a mapping's entry, that of its value."""
    if isinstance(node, Mapping):
        return Value if value is None else type(value)
    return typing.get_type_hints(type(node))[key]


def _parsed(text: str, kind: Any, path: str) -> Any:
    """Return the text as a value of a type.

    Raises:
        TrainingError: it is none; says what is allowed.
    """
    try:
        return _as(text.strip(), kind)
    except ValueError as error:
        raise TrainingError(f"{path} cannot be {text!r}: {_allowed(kind)} is allowed.") from error


def _as(text: str, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        for choice in sorted(arguments, key=_eagerness):
            try:
                return _as(text, choice)
            except ValueError:
                continue
        raise ValueError(text)
    if origin is Literal:
        if text not in arguments:
            raise ValueError(text)
        return text
    if origin is tuple:
        items = [item for item in text.split(",") if item]
        if arguments[-1] is Ellipsis:
            return tuple(_as(item, arguments[0]) for item in items)
        return tuple(_as(item, k) for item, k in zip(items, arguments, strict=True))
    if kind is type(None):
        if text.lower() != "none":
            raise ValueError(text)
        return None
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    number = kind(text)
    if isinstance(number, float) and number != number:
        raise ValueError(text)
    return number


def _eagerness(kind: Any) -> int:
    """Order in which the types of a union are tried: `none` and `true` before numbers and words."""
    return (
        [type(None), bool, int, float].index(kind) if kind in (type(None), bool, int, float) else 4
    )


def _allowed(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_allowed(choice) for choice in arguments)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin is tuple:
        return f"{_allowed(arguments[0])}, several separated by commas,"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "none")
