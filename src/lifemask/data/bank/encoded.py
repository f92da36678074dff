"""Encoded banks: varied crops of a bank beside what frozen layers of a network see in them.

Where the first layers of a network never learn, their outputs are computed once for some variations of
each face, and many trainings read them.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifemask.data.bank.faces import BankFaces, faces_of
from lifemask.data.bank.plan import BankError, BankPlan, plan_differences, plan_of
from lifemask.io.files import write_json

_FORMAT = 1
_PLAN = "encoded.json"


@dataclass(frozen=True)
class EncodedPlan:
    """What an encoded bank holds; each part depends only on this and on its number.

    Part `copy * N + part` holds a variation of part `part` of the bank, which has N parts.
    """

    bank: BankPlan
    """The bank whose faces are varied and encoded."""
    copies: int
    """Variations of each face, 1 or more."""
    size: int
    """Pixels on a side of the varied crops."""
    encoder: str
    """Which layers see them: a digest of their weights."""
    augmentation: Mapping[str, float]
    """Strengths of the variations."""
    seed: int
    """Of the variations, 0 or more."""

    @property
    def command(self) -> str:
        """What makes the parts."""
        return "lifemask encode"

    @property
    def frames(self) -> int:
        """Frames of each clip; 1 for stills."""
        return self.bank.frames

    @property
    def parts(self) -> range:
        """Numbers of all parts."""
        return range(self.copies * len(self.bank.parts))

    def items(self, part: int) -> int:
        """Return how many stills or clips a part has."""
        return self.bank.items(part % len(self.bank.parts))

    def parts_of(self, bank_parts: Sequence[int]) -> list[int]:
        """Return the numbers of the parts that hold variations of some parts of the bank."""
        return [
            copy * len(self.bank.parts) + part for copy in range(self.copies) for part in bank_parts
        ]

    def document(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        values = {**dataclasses.asdict(self), "bank": self.bank.document()}
        return json.loads(json.dumps({"format": _FORMAT, **values}))

    def part_document(self, part: int) -> dict[str, Any]:
        """Return the header of a part: the plan without `copies`, the part's number and its items."""
        document = self.document()
        del document["copies"]
        return {**document, "part": part, "items": self.items(part)}


def read_encoded_plan(folder: Path) -> EncodedPlan:
    """Return the plan of the encoded bank in a folder.

    Raises:
        BankError: there is none, it cannot be read, or it has another format.
    """
    path = folder / _PLAN
    try:
        document = json.loads(path.read_bytes())
        if document.pop("format") != _FORMAT:
            raise ValueError("another format")
        values: dict[str, Any] = {**document, "bank": plan_of(document["bank"])}
        return EncodedPlan(**values)
    except FileNotFoundError as error:
        raise BankError(
            f"There is no encoded bank in {folder}: it has no {_PLAN}. Make one: "
            f"lifemask encode RECIPE {folder}"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BankError(
            f"{path} cannot be read ({error}). It is damaged or of another version. Restore it, or "
            "encode the bank again in another folder with `lifemask encode`."
        ) from error


def continue_encoded_plan(folder: Path, plan: EncodedPlan) -> None:
    """Write the plan of an encoded bank, or check that it goes on with the one that is there.

    Raises:
        BankError: the folder holds an encoded bank with another plan, or with more copies.
        OutputError: it cannot be written.
    """
    if (folder / _PLAN).exists():
        check_encoded_plan(folder, dataclasses.replace(plan, copies=1))
        if read_encoded_plan(folder).copies > plan.copies:
            raise BankError(
                f"The encoded bank {folder} has more copies than {plan.copies}. It can only grow: "
                "use a larger --copies, or another folder."
            )
    write_json(folder / _PLAN, plan.document())


def check_encoded_plan(folder: Path, wanted: EncodedPlan) -> EncodedPlan:
    """Return the plan of an encoded bank; everything but the copies must be as wanted.

    Raises:
        BankError: there is none, or it differs; the message says in what.
    """
    stored = read_encoded_plan(folder)
    ours, theirs = ({**plan.document(), "copies": 0} for plan in (wanted, stored))
    if lines := plan_differences(ours, theirs):
        raise BankError(
            f"The encoded bank {folder} does not fit: {'; '.join(lines)}. Use the same options, or "
            "encode the bank again in another folder with `lifemask encode`."
        )
    return stored


def open_encoded(
    folder: Path,
    wanted: EncodedPlan,
    *,
    parts: Sequence[int],
    held_out: float,
    seeds: tuple[int, int],
) -> tuple[BankFaces, BankFaces]:
    """Return the encoded faces to train on, and those to validate on.

    Args:
        folder: of the encoded bank.
        wanted: what it must hold, besides the number of copies.
        parts: numbers of the bank's parts to use; empty: all.
        held_out: share of each part to validate on; at least one still or clip of each.
        seeds: of the order of the faces to train on, and of those to validate on.

    Raises:
        BankError: it or a part is missing, damaged, or not as wanted.
    """
    plan = check_encoded_plan(folder, wanted)
    chosen = plan.parts_of(tuple(sorted(set(parts))) or tuple(plan.bank.parts))
    return faces_of(folder, plan, tuple(chosen), held_out, seeds)
