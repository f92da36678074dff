"""Parts of a bank: safetensors files that are read item by item."""

import json
import os
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lifemask.data.bank.plan import BankError, PartsPlan, part_path, plan_differences
from lifemask.data.bank.records import Records
from lifemask.io.files import atomic_write

_HEADER = "bank"
_CHECKSUM = "checksum"


def write_part(folder: Path, plan: PartsPlan, part: int, records: Records) -> None:
    """Write a part, complete or not at all.

    Args:
        folder: of the bank.
        plan: of the bank.
        part: its number.
        records: its items, along the first axis of each array.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.numpy import save

    sums = [_checksum(records, item) for item in range(plan.items(part))]
    arrays = {**records, _CHECKSUM: np.array(sums, np.int64)}
    # One entry: safetensors writes several in random order, and a part drawn again must be equal.
    header = {_HEADER: json.dumps(plan.part_document(part), sort_keys=True)}
    with atomic_write(part_path(folder, part)) as file:
        file.write(save(arrays, header))


class BankPart:
    """An open part. Only items that are asked for are read from the disk."""

    def __init__(self, folder: Path, plan: PartsPlan, part: int) -> None:
        """Open a part and check its header.

        Raises:
            BankError: it is missing, truncated, or belongs to another bank.
        """
        from safetensors import SafetensorError, safe_open

        self.path, self.part = part_path(folder, part), part
        self._again = (
            f"Run `{plan.command}` again with the options of the bank: it makes what is missing or "
            "damaged"
        )
        if not self.path.exists():
            raise BankError(
                f"Part {part} of the bank {folder} is missing. {self._again}. To train with some parts "
                "only, name those that are there: sources.NAME.parts=0,1,2"
            )
        try:
            file: Any
            with safe_open(self.path, "numpy") as file:
                header = json.loads(file.metadata()[_HEADER])
                self._sums: list[int] = file.get_tensor(_CHECKSUM).tolist()
            self._rows = _rows_of(self.path)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(str(error)) from error
        wanted = plan.part_document(part)
        if header != wanted:
            lines = plan_differences(wanted, header)
            raise BankError(
                f"{self.path} belongs to another bank: {'; '.join(lines)}. Delete the file. {self._again}."
            )

    def __len__(self) -> int:
        return len(self._sums)

    def read(self, items: Sequence[int]) -> dict[str, np.ndarray]:
        """Return some items, stacked along a first axis.

        Raises:
            BankError: their bytes are not those that were written.
        """
        found: list[dict[str, np.ndarray]] = []
        try:
            with self.path.open("rb", buffering=0) as file:
                _read_only_what_is_asked(file)
                for item in items:
                    rows = {name: row.read(file, item) for name, row in self._rows.items()}
                    if _checksum(rows, 0) != self._sums[item]:
                        raise self._damaged(f"the checksum of item {item} is wrong")
                    found.append(rows)
        except (OSError, ValueError, IndexError) as error:
            raise self._damaged(str(error)) from error
        return {name: np.concatenate([rows[name] for rows in found]) for name in found[0]}

    def check(self) -> None:
        """Read every item once.

        Raises:
            BankError: an item is damaged.
        """
        for item in range(len(self)):
            self.read([item])

    def _damaged(self, reason: str) -> BankError:
        return BankError(f"{self.path} is damaged ({reason}). {self._again}.")


class _Row(NamedTuple):
    """Where the items of one array are in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    def read(self, file: FileIO, item: int) -> np.ndarray:
        """Return one item, with a first axis of length 1; ValueError if the file ends before."""
        values = np.empty((1, *self.shape), self.dtype)
        file.seek(self.start + item * values.nbytes)
        rest = values.data.cast("B") if values.nbytes else b""
        while rest:
            # One call may give less than was asked for.
            got = file.readinto(rest)
            if not got:
                raise ValueError(f"item {item} is cut off")
            rest = rest[got:]
        return values


_DTYPES = {"U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4"}


def _rows_of(path: Path) -> dict[str, _Row]:
    """Return where each array but the checksums is; the format of safetensors is 8 bytes, JSON, data.

    Its own reader maps the file. Then each of the many small reads of an item makes the system read
    up to some megabytes ahead, which is twenty times as much as the item.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        arrays = json.loads(file.read(length))
    return {
        name: _Row(
            np.dtype(_DTYPES[about["dtype"]]),
            tuple(about["shape"][1:]),
            8 + length + about["data_offsets"][0],
        )
        for name, about in sorted(arrays.items())
        if name not in ("__metadata__", _CHECKSUM)
    }


def _read_only_what_is_asked(file: FileIO) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)


def _checksum(records: Records, item: int) -> int:
    """Return the checksum of all bytes of an item."""
    value = 0
    for name in sorted(records):
        value = zlib.crc32(np.ascontiguousarray(records[name][item]).data, value)
    return value
