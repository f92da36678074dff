"""What `lifemask reconstruct` will read and write, decided before any work starts."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lifemask.cli.photo_sources import PhotoSource, file_identity, photo_sources
from lifemask.cli.reconstruct_options import ReconstructOptions
from lifemask.cli.result_record import ResultRecord, read_record
from lifemask.io.files import in_the_way, plain_name, unique_names
from lifemask.pipeline.outputs import SKIN, face_files


@dataclass(frozen=True)
class PlannedPhoto:
    """A photo, the name of its results, and why it cannot be reconstructed."""

    source: PhotoSource
    """The photo."""
    name: str
    """Name of its results without suffix; several faces add `_1`, `_2`."""
    earlier: frozenset[str] = frozenset()
    """Names of files in the folder that earlier runs wrote for this photo."""
    overwritten: frozenset[str] = frozenset()
    """Names of other files in the folder that its results may replace."""
    refusal: str = ""
    """Why nothing is done; empty if all is well."""
    finished: bool = False
    """Whether the folder already has its results, so nothing is to be done."""

    def may_replace(self, name: str) -> bool:
        """Return whether a result may replace the file of this name; case does not count."""
        known = {each.casefold() for each in self.earlier | self.overwritten}
        return name.casefold() in known


def plan_photos(options: ReconstructOptions, folder: Path) -> list[PlannedPhoto]:
    """Return all photos that the options name, those that are refused first.

    A photo is refused if a file with the name of a result is in the folder and is no earlier result
    of this photo. If it is a result of another photo, another name is chosen. `--overwrite` allows
    to replace all files but the photos themselves. With `--skip-existing`, a photo whose results are
    complete is finished.
    """
    photos, unmatched = photo_sources(options.photos)
    present = _Present(folder)
    names = unique_names(
        [photo.named for photo in photos],
        taken=lambda index, name: not options.overwrite and present.belongs(name, photos[index]),
    )
    protected = {photo.identity() for photo in photos}
    planned = [
        _planned(photo, name, present, options, protected)
        for photo, name in zip(photos, names, strict=True)
    ]
    refused = [
        PlannedPhoto(PhotoSource(path), path.name, refusal=reason)
        for path, reason in unmatched.items()
    ]
    return sorted([*refused, *planned], key=lambda photo: not photo.refusal)


@dataclass(frozen=True)
class _Present:
    """The files that are in a folder before the work starts."""

    folder: Path
    records: dict[str, ResultRecord | None] = field(default_factory=dict[str, ResultRecord | None])

    @cached_property
    def names(self) -> dict[str, str]:
        """All names by their lower case, since some file systems ignore case."""
        return {name.casefold(): name for name in sorted(os.listdir(self.folder))}

    def belongs(self, name: str, photo: PhotoSource) -> bool:
        """Return whether there are results of this name that belong to another photo."""
        owners = {record.photo_sha256 for record in self.results(name).values()}
        return bool(owners - {photo.sha256()}) if owners else False

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

    def results(self, name: str) -> dict[str, ResultRecord]:
        """Return the records of all faces whose results have this name, by their stems."""
        found = {stem: self._record(stem) for stem in self.stems(name)}
        return {stem: record for stem, record in found.items() if record is not None}

    def _record(self, stem: str) -> ResultRecord | None:
        if stem not in self.records:
            actual = self.names.get(f"{stem}.json".casefold())
            self.records[stem] = None if actual is None else read_record(self.folder / actual)
        return self.records[stem]


def _planned(
    photo: PhotoSource,
    name: str,
    present: _Present,
    options: ReconstructOptions,
    protected: set[tuple[int, int]],
) -> PlannedPhoto:
    outputs = [
        present.names[file.casefold()]
        for stem in present.stems(name)
        for file in face_files(
            stem, options.formats, arrays=options.arrays, textures=options.textures
        )
        if file.casefold() in present.names
    ]
    results = present.results(name)
    checksum = photo.sha256() if results else None
    mine = {stem: record for stem, record in results.items() if record.photo_sha256 == checksum}
    own = {
        present.names[file]
        for record in mine.values()
        for file in record.files
        if file in present.names
    }
    needed = {file.casefold() for stem in mine for file in _always_written(stem, options)}
    if options.skip_existing and mine and needed <= set(present.names):
        return PlannedPhoto(photo, name, frozenset(own), finished=True)
    for output in outputs:
        path = present.folder / output
        if file_identity(path) in protected:
            reason = f"{str(path)!r} is one of the photos. Choose another folder"
            return PlannedPhoto(photo, name, refusal=reason)
        if output not in own and not options.overwrite:
            return PlannedPhoto(photo, name, refusal=in_the_way(path))
    return PlannedPhoto(photo, name, frozenset(own), frozenset(outputs))


def _always_written(stem: str, options: ReconstructOptions) -> list[str]:
    """Return the names of the files without which the results of a face are not complete."""
    names = [f"{stem}.json", *(f"{stem}.{suffix}" for suffix in options.formats)]
    names += [f"{stem}_preview.png"] if options.preview else []
    names += [f"{plain_name(stem)}_{SKIN}_colour.jpg"] if options.textures else []
    return [*names, f"{stem}.npz"] if options.arrays else names
