"""Which photos the command line names: files, folders, patterns and the standard input."""

import glob
import hashlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifemask.cli.result_record import read_record
from lifemask.io.images import PHOTO_SUFFIXES, Photo, PhotoError, decode_photo, read_photo

STANDARD_INPUT = Path("-")
"""The argument that stands for a photo on the standard input."""
_MOST_BYTES = 1 << 30
"""A longer standard input is refused; no photo of allowed size needs more."""


@dataclass(frozen=True)
class PhotoSource:
    """One photo, not read yet."""

    path: Path
    """The file as the user names it; `-` for the standard input."""
    data: bytes | None = None
    """Bytes from the standard input; None for a file."""

    @property
    def named(self) -> Path:
        """The path after which results are named."""
        return self.path if self.data is None else Path("stdin")

    def read(self) -> Photo:
        """Read the photo.

        Raises:
            PhotoError: it cannot be read; the message says why.
        """
        if self.data is None:
            return read_photo(self.path)
        if not self.data:
            raise PhotoError("The standard input is empty. Send a photo: lifemask … < a.jpg")
        return decode_photo(io.BytesIO(self.data), name="stdin", label="the standard input")

    def sha256(self) -> str | None:
        """Return the checksum of the photo's bytes, or None if the file cannot be read."""
        if self.data is not None:
            return hashlib.sha256(self.data).hexdigest()
        try:
            with open(self.path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None

    def identity(self) -> tuple[int, int]:
        """Return numbers that are equal for two names of the same file, also one that is missing."""
        return (-2, 0) if self.data is not None else file_identity(self.path)


def photo_sources(arguments: Sequence[Path]) -> tuple[list[PhotoSource], dict[Path, str]]:
    """Return the photos that the arguments name, each once, and why an argument names none.

    A folder names the photos in it, not those of its folders, and not the results of this command.
    Shells usually replace patterns like `*.jpg` by names. Windows does not, and a pattern in quotes
    also arrives as it is.
    """
    photos: dict[tuple[int, int], PhotoSource] = {}
    unmatched: dict[Path, str] = {}
    for argument in arguments:
        try:
            for source in _named_by(argument):
                photos.setdefault(source.identity(), source)
        except _NoPhotoError as error:
            unmatched[argument] = str(error)
    return list(photos.values()), unmatched


def file_identity(path: Path) -> tuple[int, int]:
    """Return numbers that are equal for two names of the same file; those of no file differ."""
    try:
        found = path.stat()
    except OSError:
        return -1, hash(path)
    return found.st_dev, found.st_ino


class _NoPhotoError(ValueError):
    """An argument names no photo."""


def _named_by(argument: Path) -> Iterator[PhotoSource]:
    if argument == STANDARD_INPUT:
        if sys.stdin.isatty():
            raise _NoPhotoError("the standard input is a terminal. Send a photo: … - < a.jpg")
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise _NoPhotoError(f"the standard input has more than {_MOST_BYTES} bytes")
        yield PhotoSource(argument, data)
    elif argument.is_dir():
        yield from map(PhotoSource, _in_folder(argument))
    elif os.path.lexists(argument) or not glob.has_magic(str(argument)):
        yield PhotoSource(argument)
    else:
        found = sorted(Path(name) for name in glob.glob(str(argument), recursive=True))
        files = [path for path in found if path.is_file()]
        if not files:
            raise _NoPhotoError(
                f"no file in {str(argument.parent.absolute())!r} matches this pattern. Check the "
                "folder and the ending of the photos"
            )
        yield from map(PhotoSource, files)


def _in_folder(folder: Path) -> list[Path]:
    """Return the photos in a folder by name, without the pictures that this command wrote."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _NoPhotoError(f"this folder cannot be read: {error.strerror}") from error
    results: set[str] = set()
    for name in names:
        if name.lower().endswith(".json") and (record := read_record(folder / name)) is not None:
            results.update(record.files)
    photos = [
        folder / name
        for name in names
        if Path(name).suffix.lower() in PHOTO_SUFFIXES
        and not name.startswith(".")
        and name.casefold() not in results
        and (folder / name).is_file()
    ]
    if not photos:
        raise _NoPhotoError(
            f"no photo is in this folder. Name the folder with the photos, or a pattern such as "
            f"{str(folder / '**' / '*.jpg')!r}"
        )
    return photos
