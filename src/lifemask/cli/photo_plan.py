"""What `lifemask reconstruct` will read and write, decided before any work starts."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lifemask.cli.reconstruct_options import ReconstructOptions
from lifemask.io.files import in_the_way, plain_name, unique_names
from lifemask.pipeline.outputs import FORMATS, face_files


@dataclass(frozen=True)
class PlannedPhoto:
    """A photo, the name of its results, and why it cannot be reconstructed."""

    path: Path
    """The photo."""
    name: str
    """Name of its results without suffix; several faces add `_1`, `_2`."""
    earlier: frozenset[str] = frozenset()
    """Names of files in the folder that earlier runs wrote for this photo."""
    overwritten: frozenset[str] = frozenset()
    """Names of other files in the folder that its results may replace."""
    refusal: str = ""
    """Why nothing is done; empty if all is well."""

    def may_replace(self, name: str) -> bool:
        """Return whether a result may replace the file of this name; case does not count."""
        known = {each.casefold() for each in self.earlier | self.overwritten}
        return name.casefold() in known


def plan_photos(options: ReconstructOptions, folder: Path) -> list[PlannedPhoto]:
    """Return all photos that the options name, those that are refused first.

    A photo is refused if a file with the name of a result is in the folder and is no earlier result
    of this photo. If it is a result of another photo, another name is chosen. `--overwrite` allows
    to replace all files but the photos themselves.
    """
    photos, unmatched = photos_named(options.photos)
    present = _Present(folder)
    names = unique_names(
        photos,
        taken=lambda index, name: not options.overwrite and present.belongs(name, photos[index]),
    )
    protected = {_identity(photo) for photo in photos}
    planned = [
        _planned(photo, name, present, options, protected)
        for photo, name in zip(photos, names, strict=True)
    ]
    refused = [PlannedPhoto(path, path.name, refusal=reason) for path, reason in unmatched.items()]
    return sorted([*refused, *planned], key=lambda photo: not photo.refusal)


def photos_named(arguments: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Return the photos that the arguments name, and why an argument names none.

    Shells usually replace patterns like `*.jpg` by names. Windows does not, and a pattern in quotes
    also arrives as it is.
    """
    photos: list[Path] = []
    unmatched: dict[Path, str] = {}
    for argument in arguments:
        if os.path.lexists(argument) or not glob.has_magic(str(argument)):
            photos.append(argument)
            continue
        found = sorted(Path(name) for name in glob.glob(str(argument), recursive=True))
        files = [path for path in found if path.is_file()]
        if not files:
            folder = argument.parent
            unmatched[argument] = (
                f"no file in {str(folder.absolute())!r} matches this pattern. Check the folder and "
                "the ending of the photos"
            )
        photos += [path for path in files if path not in photos]
    return photos, unmatched


@dataclass(frozen=True)
class _Present:
    """The files that are in a folder before the work starts."""

    folder: Path
    documents: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    @cached_property
    def names(self) -> dict[str, str]:
        """All names by their lower case, since some file systems ignore case."""
        return {name.casefold(): name for name in sorted(os.listdir(self.folder))}

    def belongs(self, name: str, photo: Path) -> bool:
        """Return whether there are results of this name that belong to another photo."""
        return any(
            owner is not None and owner != _sha256(photo)
            for owner in (self.photo_of(stem) for stem in self.stems(name))
        )

    @cached_property
    def numbers(self) -> dict[str, set[str]]:
        """The numbers of faces in the names of files, by what stands before them."""
        found: dict[str, set[str]] = {}
        for name in self.names:
            for number in re.finditer(r"_(\d+)(?=[._])", name):
                found.setdefault(name[: number.start()], set()).add(number[1])
        return found

    def stems(self, name: str) -> list[str]:
        """Return the name, and the name with each number of a face that is in the folder."""
        numbers: set[str] = set()
        for start in {name.casefold(), plain_name(name).casefold()}:
            numbers |= self.numbers.get(start, set())
        return [name, *(f"{name}_{number}" for number in sorted(numbers))]

    def document(self, stem: str) -> Mapping[str, Any]:
        """Return the part of STEM.json about the photo and its files; empty if it has none."""
        if stem not in self.documents:
            self.documents[stem] = {}
            actual = self.names.get(f"{stem}.json".casefold())
            if actual is not None:
                with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                    value = json.loads((self.folder / actual).read_text("utf-8"))
                    owner = value["photo"]["sha256"]
                    # Earlier versions did not list the files.
                    files = value.get("files") or face_files(stem, FORMATS, arrays=True)
                    if isinstance(owner, str) and isinstance(files, list):
                        names = [str(name).casefold() for name in cast(list[object], files)]
                        self.documents[stem] = {"owner": owner, "files": names}
        return self.documents[stem]

    def photo_of(self, stem: str) -> str | None:
        """Return the checksum of the photo whose result STEM.json is, or None."""
        return self.document(stem).get("owner")


def _planned(
    photo: Path,
    name: str,
    present: _Present,
    options: ReconstructOptions,
    protected: set[tuple[int, int]],
) -> PlannedPhoto:
    stems = present.stems(name)
    outputs = [
        present.names[file.casefold()]
        for stem in stems
        for file in face_files(stem, options.formats, arrays=options.arrays)
        if file.casefold() in present.names
    ]
    own = {
        present.names[file]
        for stem in stems
        if present.photo_of(stem) is not None and present.photo_of(stem) == _sha256(photo)
        for file in present.document(stem)["files"]
        if file in present.names
    }
    for output in outputs:
        path = present.folder / output
        if _identity(path) in protected:
            reason = f"{str(path)!r} is one of the photos. Choose another folder"
            return PlannedPhoto(photo, name, refusal=reason)
        if output not in own and not options.overwrite:
            return PlannedPhoto(photo, name, refusal=in_the_way(path))
    return PlannedPhoto(photo, name, frozenset(own), frozenset(outputs))


def _identity(path: Path) -> tuple[int, int]:
    """Return numbers that are equal for two names of the same file; those of no file differ."""
    try:
        found = path.stat()
    except OSError:
        return -1, hash(path)
    return found.st_dev, found.st_ino


def _sha256(path: Path) -> str | None:
    """Return the checksum of a file, or None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
