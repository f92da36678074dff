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

MOST_NAME_BYTES = 200
"""Longest name of a photo's results, without endings."""
_MOST_FILE_NAME_BYTES = 255
"""Longest name in common file systems."""


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
    hidden = path.with_name(f".{shortened(path.name, 100)}.{secrets.token_hex(4)}.part")
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


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise unless a file can be written to `path`; ask this before long work.

    Raises:
        OutputError: see `atomic_write`; or a folder has this name, or the name is too long.
    """
    path = Path(path)
    number = 0
    if len(os.fsencode(path.name)) > _MOST_FILE_NAME_BYTES:
        number = errno.ENAMETOOLONG
    elif path.is_dir():
        number = errno.EISDIR
    elif not path.parent.exists():
        number = errno.ENOENT
    elif not path.parent.is_dir():
        number = errno.ENOTDIR
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        number = errno.EACCES
    if number:
        raise _output_error(path, OSError(number, os.strerror(number)))


@contextmanager
def staged(
    folder: Path, *, may_replace: Callable[[str], bool] = lambda name: True
) -> Generator[Path]:
    """Yield an empty hidden folder inside `folder`; at the end its files move up into `folder`.

    It is for results of several files. On any exception nothing appears in `folder`.

    Args:
        folder: where the files are in the end.
        may_replace: a function of a file's name; returns whether a file in `folder` that already
            has this name may be replaced.

    Raises:
        OutputError: `folder` is not writable, the disk is full, or a file may not be replaced.
    """
    hidden = folder / f".{secrets.token_hex(4)}.part"
    try:
        hidden.mkdir()
        yield hidden
        files = sorted(hidden.iterdir())
        for file in files:
            if os.path.lexists(folder / file.name) and not may_replace(file.name):
                raise OutputError(in_the_way(folder / file.name))
        for file in files:
            os.replace(file, folder / file.name)
    except OutputError as error:
        # Users do not know the hidden folder, so the message must not name it.
        raise OutputError(str(error).replace(hidden.name + os.sep, "")) from error
    except OSError as error:
        raise _output_error(folder, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def in_the_way(path: Path) -> str:
    """Return the message about a file that a result would replace."""
    return (
        f"{str(path)!r} exists and is not an earlier result of this photo. Choose another folder, "
        "move the file, or add --overwrite to replace it."
    )


def plain_name(name: str) -> str:
    """Return the name without spaces and signs, because they end a name in OBJ and MTL files."""
    return re.sub(r"[^\w.-]+", "_", name) or "_"


def printable(name: str) -> str:
    """Return a file's name as text; bytes that are not UTF-8 become the sign U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def shortened(name: str, most_bytes: int) -> str:
    """Return the start of a name that has at most so many bytes in UTF-8."""
    return name.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


def unique_names(
    photos: Sequence[Path], *, taken: Callable[[int, str], bool] = lambda index, name: False
) -> list[str]:
    """Return a file name without suffix for the results of each photo, all different.

    The name is that of the photo. If two photos have the same name, the folder's name is put before
    it; if the names are still equal, a number follows. Names that differ only in case, or by the
    `_1`, `_2` of several faces in one photo, count as equal. So do names that are equal in the files
    of OBJ, which have no spaces and signs.

    Every file system takes the names: they are text, and short enough for all endings.

    Args:
        photos: paths of the photos.
        taken: a function of the photo's index and a name; returns whether the name is already used.
    """
    names: list[str] = []
    used: set[str] = set()
    without_number: set[str] = set()
    for index, photo in enumerate(photos):
        for name in _candidates(photo):
            plain = plain_name(name).casefold()
            alone = re.sub(r"_\d+$", "", plain)
            # Could results of two names have the same file name?
            clash = plain in used or alone in used or plain in without_number
            if not clash and not taken(index, name):
                names.append(name)
                used.add(plain)
                without_number.add(alone)
                break
    return names


def _candidates(photo: Path) -> Iterator[str]:
    stem = printable(photo.stem).replace("\ufffd", "_")
    yield shortened(stem, MOST_NAME_BYTES)
    if folder := photo.absolute().parent.name:
        folder = shortened(printable(folder).replace("\ufffd", "_"), MOST_NAME_BYTES // 4)
        yield shortened(f"{folder}_{stem}", MOST_NAME_BYTES)
    for number in count(2):
        yield f"{shortened(stem, MOST_NAME_BYTES - 10)}-{number}"


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
            reason = "the name is too long; choose a shorter one"
        case _:
            reason = error.strerror or str(error)
    return OutputError(f"Cannot write {str(path)!r}: {reason}.")
