"""What NAME.json says about its photo and about the files of one result."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lifemask.pipeline.outputs import FORMATS, face_files


@dataclass(frozen=True)
class ResultRecord:
    """Whose result a JSON file is, and which files belong to it."""

    photo_sha256: str
    """Checksum of the photo."""
    files: tuple[str, ...]
    """Names of the files beside it, lower case."""


def read_record(path: Path) -> ResultRecord | None:
    """Return the record in a JSON file, or None if the file is no result of `reconstruct`."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        value = json.loads(path.read_text("utf-8"))
        owner = value["photo"]["sha256"]
        # Earlier versions did not list the files.
        files = value.get("files") or face_files(path.stem.casefold(), FORMATS, arrays=True)
        if isinstance(owner, str) and isinstance(files, list):
            names = tuple(str(name).casefold() for name in cast(list[object], files))
            return ResultRecord(owner, names)
    return None
