"""The plan of a bank: what is drawn into it. It is the file `bank.json`, and heads every part."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.io.files import write_json

Kind = Literal["stills", "clips"]
"""Stills show one person each; clips show one person in several frames."""

_FORMAT = 1
_PLAN = "bank.json"


class BankError(ValueError):
    """A bank or a part of it is missing, damaged or another one; the message says what to do."""


@runtime_checkable
class PartsPlan(Protocol):
    """What every kind of bank is made of: numbered parts with items."""

    @property
    def command(self) -> str:
        """What makes the parts."""
        ...

    @property
    def frames(self) -> int:
        """Images of each item."""
        ...

    @property
    def parts(self) -> range:
        """Numbers of all parts."""
        ...

    def items(self, part: int) -> int:
        """Return how many items a part has."""
        ...

    def part_document(self, part: int) -> dict[str, Any]:
        """Return the header of a part as plain JSON values."""
        ...


@dataclass(frozen=True)
class BankPlan:
    """What is drawn into a bank; each part depends only on this and on its number."""

    kind: Kind
    """Stills or clips."""
    count: int
    """How many of them the whole bank has."""
    config: SyntheticConfig
    """What is drawn; its `size` and `margin` are those of the stored crops."""
    seed: int
    """Of all random numbers, 0 or more."""
    generator: str
    """From `generator_version`."""
    frames: int = 1
    """Frames of each clip; 1 for stills."""
    part_size: int = 500
    """Stills or clips in each part; the last part may have fewer."""
    maps: bool = False
    """Whether albedo and displacement in UV are stored."""
    pixel_maps: bool = False
    """Whether normals and albedo of each pixel are stored."""
    rerendered: float = 0.0
    """Share of re-rendered fits among stills."""
    stores: Mapping[str, str] = field(default_factory=dict[str, str])
    """File names of the stored fits, with their sha256."""

    def __post_init__(self) -> None:
        self._check(self.count >= 1, f"count is {self.count}", "1 and more")
        self._check(self.part_size >= 1, f"the part size is {self.part_size}", "1 and more")
        self._check(self.seed >= 0, f"seed is {self.seed}", "0 and more")
        fitting = self.frames == 1 if self.kind == "stills" else self.frames >= 2
        self._check(fitting, f"{self.kind} have {self.frames} frames", "1 for stills, 2 for clips")
        self._check(0 <= self.rerendered <= 1, f"rerendered is {self.rerendered}", "0 to 1")
        without = self.rerendered == 0 or (self.kind == "stills" and len(self.stores) > 0)
        self._check(without, "re-rendered fits are wanted", "stills, with stores of fits in --data")

    @property
    def command(self) -> str:
        """What makes the parts."""
        return "lifemask draw"

    @property
    def side(self) -> int:
        """Pixels on a side of the frame in the middle of each crop; at most the whole crop."""
        return round(self.config.size / max(self.config.margin, 1))

    @property
    def parts(self) -> range:
        """Numbers of all parts."""
        return range(-(-self.count // self.part_size))

    def items(self, part: int) -> int:
        """Return how many stills or clips a part has."""
        return min(self.part_size, self.count - part * self.part_size)

    def document(self) -> dict[str, Any]:
        """Return the plan as plain JSON values.

        Maps of pixels are named only where they are stored, as banks without them never named them.
        """
        values = dataclasses.asdict(self)
        if not self.pixel_maps:
            del values["pixel_maps"]
        return json.loads(json.dumps({"format": _FORMAT, **values}))

    def part_document(self, part: int) -> dict[str, Any]:
        """Return the header of a part: the plan without `count`, the part's number and its items."""
        document = self.document()
        del document["count"]
        return {**document, "part": part, "items": self.items(part)}

    @staticmethod
    def _check(valid: bool, came: str, allowed: str) -> None:
        if not valid:
            raise ValueError(f"This bank cannot be drawn: {came}. Allowed: {allowed}.")


def crop_config(config: SyntheticConfig, side: int, margin: float) -> SyntheticConfig:
    """Return a configuration with whole pixels of margin on every side of the frame.

    Args:
        config: all other options.
        side: pixels on a side of the frame.
        margin: about the side of the crop, in units of the frame's.

    Raises:
        ValueError: a value that cannot be.
    """
    size = side + 2 * round(side * (margin - 1) / 2)
    return dataclasses.replace(config, size=size, margin=size / max(side, 1))


def part_path(folder: Path, part: int) -> Path:
    """Return the file of a part."""
    return folder / f"part-{part:04}.safetensors"


def write_plan(folder: Path, plan: BankPlan) -> None:
    """Write `bank.json`.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(folder / _PLAN, plan.document())


def has_plan(folder: Path) -> bool:
    """Return whether there is a bank in a folder."""
    return (folder / _PLAN).exists()


def read_plan(folder: Path) -> BankPlan:
    """Return the plan of the bank in a folder.

    Raises:
        BankError: there is none, it cannot be read, or it has another format.
    """
    path = folder / _PLAN
    try:
        return plan_of(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise BankError(
            f"There is no bank of faces in {folder}: it has no {_PLAN}. Draw one: "
            f"lifemask draw {folder} --count 50000. For clips, add --kind clips."
        ) from error
    except BankError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BankError(
            f"{path} cannot be read ({error}). It is damaged or of another version. Restore it, or "
            "draw the bank again in another folder with `lifemask draw`."
        ) from error


def plan_of(document: Mapping[str, Any]) -> BankPlan:
    """Return the plan of a document from `BankPlan.document`.

    Raises:
        BankError: it has another format.
        ValueError: a value that cannot be, or a name that is unknown or missing (TypeError, KeyError).
    """
    values = dict(document)
    if (stored := values.pop("format")) != _FORMAT:
        raise BankError(
            f"The bank has format {stored}; this version reads format {_FORMAT}. Draw the bank "
            "again in another folder with `lifemask draw`."
        )
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.pop("config").items()
    }
    return BankPlan(config=SyntheticConfig(**options), **values)


def plan_differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return one line for each value in which two documents of plans differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for key in sorted({*ours, *theirs})
            for line in plan_differences(
                ours.get(key, "nothing"), theirs.get(key, "nothing"), f"{path}.{key}".lstrip(".")
            )
        ]
    return [] if ours == theirs else [f"{path} is {theirs!r}, wanted is {ours!r}"]
