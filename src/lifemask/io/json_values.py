"""JSON from files of unknown origin: every value is checked when it is taken, and errors name its place."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
from jaxtyping import Float

MOST_BYTES = 1 << 24
"""Larger files are refused."""
_DEPTH = 64
"""Most levels of lists and objects."""
_DIGITS_SHOWN = 40


class JsonError(ValueError):
    """A text is not JSON, or a value in it is not what is needed; the message names the place."""


@dataclass(frozen=True)
class JsonValue:
    """A value of a JSON file, and where it stands there.

    All methods raise a `JsonError` if the value is not what they return.
    """

    value: Any
    """What `json.loads` returns."""
    place: str
    """Path from the top of the file, like `nodes[3].mesh`."""

    def __getitem__(self, key: str) -> "JsonValue":
        """Return a value of an object."""
        found = self.get(key)
        if found is None:
            raise JsonError(f"{self.place} has no {key!r}.")
        return found

    def get(self, key: str) -> "JsonValue | None":
        """Return a value of an object, or None if the object does not have it."""
        members = self.members()
        return JsonValue(members[key], self._inside(key)) if key in members else None

    def members(self) -> Mapping[str, Any]:
        """Return the names and values of an object."""
        if not isinstance(self.value, Mapping):
            self.refuse("an object")
        return cast(Mapping[str, Any], self.value)

    def items(self, *, most: int) -> "list[JsonValue]":
        """Return the values of a list of at most so many."""
        if not isinstance(self.value, list):
            self.refuse("a list")
        values = cast(Sequence[Any], self.value)
        if len(values) > most:
            raise JsonError(f"{self.place} has {len(values)} values; at most {most} are allowed.")
        return [JsonValue(value, f"{self.place}[{index}]") for index, value in enumerate(values)]

    def integer(self, least: int, most: int) -> int:
        """Return a whole number in a range, both ends included."""
        if type(self.value) is not int or not least <= self.value <= most:
            self.refuse(f"a whole number from {least} to {most}")
        return self.value

    def number(self, least: float, most: float) -> float:
        """Return a number in a range, both ends included."""
        if type(self.value) not in (int, float) or not least <= self.value <= most:
            self.refuse(f"a number from {least:g} to {most:g}")
        return float(self.value)

    def numbers(
        self, shape: tuple[int, ...], *, least: float, most: float
    ) -> Float[np.ndarray, "*shape"]:
        """Return nested lists of numbers as an array of this shape; all are in the range."""
        if not shape:
            return np.array(self.number(least, most))
        if not isinstance(self.value, list) or len(cast(list[Any], self.value)) != shape[0]:
            self.refuse(f"a list of {' x '.join(map(str, shape))} numbers")
        rows = [
            item.numbers(shape[1:], least=least, most=most) for item in self.items(most=shape[0])
        ]
        return np.stack(rows)

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            self.refuse("a text")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def refuse(self, needed: str) -> NoReturn:
        """Raise a `JsonError` that shows this value and says what is needed instead."""
        raise JsonError(f"{self.place} is {_shown(self.value)}; {needed} is needed.")

    def _inside(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place != _TOP else key


def read_json(path: str | os.PathLike[str]) -> JsonValue:
    """Return the value in a JSON file of at most 16 megabytes.

    Raises:
        JsonError: the file is larger, or see `parse_json`.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise JsonError(f"it has more than {MOST_BYTES} bytes.")
    return parse_json(data)


def parse_json(data: bytes) -> JsonValue:
    """Return the value in a JSON file.

    Raises:
        JsonError: the data is not JSON in UTF-8, or holds NaN, infinity or more than 64 levels.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise JsonError("it is not JSON: it is no text in UTF-8.") from error
    except RecursionError as error:
        raise JsonError(f"it has more than {_DEPTH} levels of lists and objects.") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not JSON ({error}).") from error
    except JsonError:
        raise
    except ValueError as error:  # Python refuses to convert thousands of digits
        raise JsonError("it holds a whole number of thousands of digits.") from error
    _check_depth(value)
    return JsonValue(value, _TOP)


_TOP = "the file"


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"it holds {name}, which is no number of JSON.")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise JsonError(f"it has more than {_DEPTH} levels of lists and objects.")


def _children(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(cast(dict[str, Any], value).values())
    return cast(list[Any], value) if isinstance(value, list) else ()


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "an object"
        case list():
            return f"a list of {len(cast(list[Any], value))}"
        case float() if not math.isfinite(value):
            return "not finite"
        case _:
            text = json.dumps(value)
            return text if len(text) <= _DIGITS_SHOWN else f"{text[:_DIGITS_SHOWN]}…"
