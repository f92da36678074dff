"""Parts of a bank: safetensors files that are read through memory maps, item by item."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
            # Framework numpy: bytes come from the memory map without torch's storage around them.
            self._file: Any = safe_open(self.path, "numpy")
            self._file.__enter__()
            header = json.loads(self._file.metadata()[_HEADER])
            names = sorted(set(self._file.keys()) - {_CHECKSUM})
            self._slices: dict[str, Any] = {name: self._file.get_slice(name) for name in names}
            self._sums: list[int] = self._file.get_tensor(_CHECKSUM).tolist()
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
        from safetensors import SafetensorError

        found: list[dict[str, np.ndarray]] = []
        for item in items:
            try:
                rows = {name: piece[item : item + 1] for name, piece in self._slices.items()}
                right = _checksum(rows, 0) == self._sums[item]
            except (SafetensorError, OSError, ValueError, IndexError) as error:
                raise self._damaged(str(error)) from error
            if not right:
                raise self._damaged(f"the checksum of item {item} is wrong")
            found.append(rows)
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


def _checksum(records: Records, item: int) -> int:
    """Return the checksum of all bytes of an item."""
    value = 0
    for name in sorted(records):
        value = zlib.crc32(np.ascontiguousarray(records[name][item]).data, value)
    return value
