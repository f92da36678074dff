"""Reads photos from WebDataset shards: tar files of `KEY.jpg` and `KEY.json`."""

import json
import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"(.*?)(\d+)$")


class ShardError(ValueError):
    """Shards are missing, damaged or not allowed; the message names them and says what to do."""


@dataclass(frozen=True)
class RawPhoto:
    """The files of a photo in a shard."""

    key: str
    """Name of the photo."""
    image: bytes
    """Content of the JPEG file."""
    about: dict[str, Any]
    """Content of the JSON file."""


@dataclass(frozen=True)
class PhotoPlace:
    """Position of a photo in a shard; it can be read without the files before it."""

    shard: Path
    """The tar file."""
    key: str
    """Name of the photo."""
    image: tuple[int, int]
    """First byte and number of bytes of the JPEG file."""
    about: tuple[int, int]
    """First byte and number of bytes of the JSON file."""

    def read(self) -> RawPhoto:
        """Read the photo.

        Raises:
            ShardError: the shard has changed since it was indexed.
        """
        try:
            with open(self.shard, "rb") as file:
                image, about = (_part(file, *place) for place in (self.image, self.about))
            return RawPhoto(self.key, image, json.loads(about))
        except (OSError, ValueError) as error:
            raise ShardError(
                f"{self.key} cannot be read from {self.shard} any more ({error}). Do not change "
                "shards during training, and start again with --resume."
            ) from error


def find_shards(data: Path | None, patterns: Sequence[str]) -> list[Path]:
    """Return the shards that match, in the order of the patterns and of their names.

    Args:
        data: see `find_files`.
        patterns: see `find_files`.

    Raises:
        ShardError: a pattern matches nothing, or a number is missing among numbered shards.
    """
    found = find_files(data, patterns)
    _check_numbers(found)
    return found


def find_files(data: Path | None, patterns: Sequence[str]) -> list[Path]:
    """Return the files that match, in the order of the patterns and of their names.

    Args:
        data: folder to which patterns are relative; None if all are absolute.
        patterns: paths in which `*` matches any characters and `?` one character.

    Raises:
        ShardError: a pattern matches nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if not path.is_absolute():
            if data is None:
                raise ShardError(
                    f"The folder of {pattern!r} is unknown. Name it with --data, or "
                    "in the environment variable LIFEMASK_DATA."
                )
            path = data / path
        matching = sorted(p for p in path.parent.glob(path.name) if p.is_file())
        if not matching:
            raise ShardError(
                f"There is no {path}. Check --data and the recipe's shards, or set the source's "
                "share to 0."
            )
        found += [p for p in matching if p not in found]
    return found


def index_shards(shards: Sequence[Path]) -> tuple[list[PhotoPlace], dict[str, int]]:
    """Return the places of all photos, and the number of skipped files by reason.

    Raises:
        ShardError: a shard cannot be read or is cut off; the message names the last complete file.
    """
    places: list[PhotoPlace] = []
    passed: dict[str, int] = {}
    for shard in shards:
        files: dict[str, dict[str, tuple[int, int]]] = {}
        for name, start, size in _members(shard):
            key, _, extension = name.partition(".")
            files.setdefault(key, {})[extension.lower()] = (start, size)
        for key, parts in files.items():
            image = parts.get("jpg") or parts.get("jpeg")
            if image is None or "json" not in parts:
                reason = "without a photo" if image is None else "without a JSON file"
                passed[reason] = passed.get(reason, 0) + 1
                logger.warning("%s in %s is skipped: %s.", key, shard, reason)
                continue
            places.append(PhotoPlace(shard, key, image, parts["json"]))
    return places, passed


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, first byte and size of each file in a tar, without reading the files."""
    last = "its start"
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, member.offset_data, member.size
                    last = member.name
            if shard.stat().st_size < archive.offset + 512:
                raise tarfile.ReadError("the end mark is missing")
    except (tarfile.TarError, OSError) as error:
        raise ShardError(
            f"{shard} cannot be read beyond {last} ({error}). It was cut off or damaged: copy it "
            "again from its source, or leave it out of the recipe's shards."
        ) from error


def _part(file: Any, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it has become shorter")
    return data


def _check_numbers(shards: Sequence[Path]) -> None:
    """Raise if shards are numbered from 0 and a number in between is missing."""
    numbers: dict[Path, dict[int, str]] = {}
    for shard in shards:
        if match := _NUMBERED.match(shard.stem):
            numbers.setdefault(shard.with_name(match[1]), {})[int(match[2])] = match[2]
    for start, present in numbers.items():
        missing = sorted(set(range(max(present) + 1)) - set(present))
        if len(present) > 1 and missing:
            digits = len(next(iter(present.values())))
            names = ", ".join(f"{start.name}{number:0{digits}}.tar" for number in missing[:5])
            raise ShardError(
                f"In {start.parent} {names} is missing between the others. Copy it there, or name "
                "the shards one by one in the recipe."
            )
