"""Writing files completely or not at all, without overwriting other results."""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO


class OutputError(OSError):
    """A result could not be written; the message says why and what to do."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """Open `path` for writing; the file appears complete or not at all.

    The bytes go to a hidden file in the same folder, which gets the final name when everything is
    on the disk. On any exception, Ctrl-C included, the hidden file is removed and an older file at
    `path` does not change.

    Raises:
        OutputError: the folder does not exist or is not writable, or the disk is full.
    """
    path = Path(path)
    hidden = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with open(hidden, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, path)
    except BaseException as error:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise _output_error(path, error) from error
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, complete or not at all."""
    with atomic_write(path) as file:
        file.write(data)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, complete or not at all; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder for results and its parents if needed, and return it.

    Raises:
        OutputError: a file has this name, or the folder cannot be created or is not writable.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _output_error(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise _output_error(path, PermissionError(errno.EACCES, "Permission denied"))
    return path


@contextmanager
def staged(folder: Path) -> Generator[Path]:
    """Yield an empty hidden folder inside `folder`; at the end its files move up into `folder`.

    It is for results of several files. On any exception nothing appears in `folder`. Files with the
    same name are replaced.

    Raises:
        OutputError: `folder` is not writable, or the disk is full.
    """
    hidden = folder / f".{secrets.token_hex(4)}.part"
    try:
        hidden.mkdir()
        yield hidden
        for file in sorted(hidden.iterdir()):
            os.replace(file, folder / file.name)
    except OutputError as error:
        # Users do not know the hidden folder, so the message must not name it.
        raise OutputError(str(error).replace(hidden.name + os.sep, "")) from error
    except OSError as error:
        raise _output_error(folder, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def unique_names(
    photos: Sequence[Path], *, taken: Callable[[int, str], bool] = lambda index, name: False
) -> list[str]:
    """Return a file name without suffix for the results of each photo, all different.

    The name is that of the photo. If two photos have the same name, the folder's name is put before
    it; if the names are still equal, a number follows. Names that differ only in case, or by the
    `_1`, `_2` of several faces in one photo, count as equal.

    Args:
        photos: paths of the photos.
        taken: a function of the photo's index and a name; returns whether the name is already used.
    """
    used: list[str] = []
    for index, photo in enumerate(photos):
        used.append(
            next(
                name
                for name in _candidates(photo)
                if not any(_clash(name, other) for other in used) and not taken(index, name)
            )
        )
    return used


def _candidates(photo: Path) -> Iterator[str]:
    yield photo.stem
    if folder := photo.absolute().parent.name:
        yield f"{folder}_{photo.stem}"
    for number in count(2):
        yield f"{photo.stem}-{number}"


def _without_face_number(name: str) -> str:
    return re.sub(r"_\d+$", "", name.casefold())


def _clash(name: str, other: str) -> bool:
    """Return whether results with the two names could have the same file name."""
    name, other = name.casefold(), other.casefold()
    return (
        name == other or _without_face_number(name) == other or name == _without_face_number(other)
    )


def _output_error(path: Path, error: OSError) -> OutputError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            reason = "the disk is full; free some space or choose another folder"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            reason = "it is not writable; choose another folder or change its permissions"
        case errno.ENOENT:
            reason = "its folder does not exist; create it first"
        case errno.ENOTDIR | errno.EEXIST:
            reason = "there is a file where the folder should be; choose another folder"
        case errno.EISDIR:
            reason = "a folder already has that name"
        case errno.ENAMETOOLONG:
            reason = "the name is too long; rename the photo"
        case _:
            reason = error.strerror or str(error)
    return OutputError(f"Cannot write {str(path)!r}: {reason}.")
