"""The data files that ship with the package, each with a card: contents, authors and licence.

`assets/head/x.safetensors` has the name `head/x` and the card `assets/head/x.card.json` beside it.
Only `load_asset` imports torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ASSETS = Path(__file__).resolve().parents[1] / "assets"
"""The folder of all shipped assets."""

ALLOWED_LICENCES = frozenset(
    {
        "CC0-1.0", "public-domain", "CC-BY-3.0", "CC-BY-4.0", "Apache-2.0", "MIT",
        "BSD-2-Clause", "BSD-3-Clause", "OGL-UK-3.0", "OPL-UK-3.0",
    }
)  # fmt: skip
"""SPDX identifiers (and `public-domain`, `OPL-UK-3.0`) under which an asset may ship: each allows
any use, sale and change."""


RUN_TIME = "run time"
"""Value of a card's `used_at` for files that every reconstruction needs."""

SYSTEMS = "systems"
"""Its value for trained systems, which `load_system` loads."""

_NOTICE_HEAD = """\
lifemask
Copyright 2026 The lifemask authors

This product includes data built from public sources. Each file under src/lifemask/assets has a
card (NAME.card.json) that names its sources, authors and licences; `lifemask licenses` prints
them all. The attributions that those licences ask for:
"""


class AssetError(RuntimeError):
    """A shipped file or its card is missing, changed or incomplete; the message says which."""


@dataclass(frozen=True)
class AssetSource:
    """One public source of an asset."""

    name: str
    """Package, data set or collection."""
    version: str
    """The publisher's version."""
    where: str
    """Registry and file in it, or address."""
    sha256: str
    """Hash of the source file; empty if the asset's card explains why there is none."""
    licence: str
    """SPDX identifier."""
    licence_text: str
    """The text or its address, if the licence requires to pass it on."""


@dataclass(frozen=True)
class AssetCard:
    """Description of one shipped file, for people and for `lifemask licenses`."""

    name: str
    """Path under the assets folder without suffix."""
    title: str
    """Name for readers."""
    version: str
    """Increases when the contents change."""
    description: str
    """One line."""
    licence: str
    """SPDX identifier."""
    attribution: str
    """The credit line to pass on; empty if the licence requires none."""
    sources: tuple[AssetSource, ...]
    """The data that it was built from."""
    sha256: str
    """Hash of the file."""
    built_by: str
    """The program or person that made it."""
    used_at: str
    """'run time', 'systems', 'training and grading', or 'demo and tests'."""

    @property
    def path(self) -> Path:
        """The file that the card describes."""
        return asset_path(self.name)


def asset_path(name: str) -> Path:
    """Return the file of an asset, such as `perception/face_mesh`; its contents are not checked.

    Raises:
        AssetError: there is no asset of that name.
    """
    parent, stem = (ASSETS / name).parent, Path(name).name
    found = [path for path in parent.glob("*") if _stem(path) == stem and not _is_card(path)]
    if len(found) != 1:
        known = ", ".join(card.name for card in list_cards())
        raise AssetError(
            f"There is no asset {name!r}. Shipped assets: {known}. Reinstall lifemask."
        )
    return found[0]


def read_card(name: str) -> AssetCard:
    """Return the card of an asset.

    Raises:
        AssetError: the card is missing or lacks an entry.
    """
    return _card(ASSETS / f"{name}.card.json", ASSETS)


def list_cards() -> list[AssetCard]:
    """Return the cards of all shipped assets, by name."""
    return [_card(path, ASSETS) for path in sorted(ASSETS.rglob("*.card.json"))]


def list_models() -> list[AssetCard]:
    """Return the cards of the head, of the networks and of all trained systems, by name."""
    return [card for card in list_cards() if card.used_at in (RUN_TIME, SYSTEMS)]


def used_assets() -> list[dict[str, str]]:
    """Return name, version, licence, attribution and sha256 of all assets of a reconstruction."""
    return [
        {
            "name": card.name,
            "version": card.version,
            "licence": card.licence,
            "attribution": card.attribution,
            "sha256": card.sha256,
        }
        for card in _in_every_reconstruction()
    ]


def attribution() -> str:
    """Return the credits that files of a reconstructed head contain, one per line."""
    lines = ["Made with lifemask."]
    for card in _in_every_reconstruction():
        if card.attribution:
            lines.append(f"{card.attribution} ({card.licence})")
    return "\n".join(dict.fromkeys(lines))


def _in_every_reconstruction() -> list[AssetCard]:
    return [card for card in list_cards() if card.used_at == RUN_TIME]


def notice() -> str:
    """Return the contents of the file NOTICE: all credit lines, each with its assets."""
    assets: dict[str, list[str]] = {}
    for card in list_cards():
        if card.attribution:
            assets.setdefault(f"{card.attribution} ({card.licence})", []).append(card.name)
    credits = "".join(f"\n{line}\n  {', '.join(names)}\n" for line, names in assets.items())
    return _NOTICE_HEAD + credits


def load_asset(name: str) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors asset, after checking the file against its card.

    Raises:
        AssetError: the file or its card is missing, or the file's sha256 is not that of the card.
    """
    from safetensors.torch import load_file

    path = asset_path(name)
    if sha256_of(path) != read_card(name).sha256:
        raise AssetError(f"{path} is damaged or was changed: its card has another sha256.")
    return load_file(path)


def audit(folder: Path = ASSETS) -> list[str]:
    """Return the problems of the assets and cards in a folder, one sentence each.

    Every file needs a complete card with its sha256 and an allowed licence; every card needs a file.
    """
    problems: list[str] = []
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    carded = {path.with_name(_stem(path)) for path in files if _is_card(path)}
    for path in files:
        file = path.relative_to(folder).as_posix()
        if not _is_card(path):
            if path.with_name(_stem(path)) not in carded:
                problems.append(f"{file} has no card {_stem(path)}.card.json beside it.")
            continue
        try:
            card = _card(path, folder)
        except AssetError as error:
            problems.append(str(error))
            continue
        problems += [f"{file}: {problem}" for problem in _problems(card, path)]
    return problems


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file; a process reads an unchanged file only once."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problems(card: AssetCard, path: Path) -> list[str]:
    problems: list[str] = []
    name = path.name.removesuffix(".card.json")
    found = [other for other in path.parent.glob("*") if _stem(other) == name and other != path]
    if len(found) != 1:
        problems.append(f"it describes {len(found)} files; there must be one.")
    elif sha256_of(found[0]) != card.sha256:
        problems.append(f"the sha256 is not that of {found[0].name}.")
    if not card.sources:
        problems.append("it names no source.")
    licences = {card.licence} | {source.licence for source in card.sources}
    for licence in sorted(licences):
        if not is_allowed(licence):
            allowed = ", ".join(sorted(ALLOWED_LICENCES))
            problems.append(f"licence {licence!r} is not allowed. Allowed licences: {allowed}.")
    if "CC-BY" in card.licence and not card.attribution:
        problems.append(f"{card.licence} requires an attribution, and the card has none.")
    return problems


def is_allowed(licence: str) -> bool:
    """Return whether an asset of a licence (SPDX identifiers with AND or OR) may ship."""
    return all(
        any(choice.strip() in ALLOWED_LICENCES for choice in part.split(" OR "))
        for part in licence.split(" AND ")
    )


def _card(path: Path, folder: Path) -> AssetCard:
    file = path.relative_to(folder).as_posix()
    try:
        entry: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        sources = tuple(
            AssetSource(
                name=source["name"],
                version=str(source["version"]),
                where=source["where"],
                sha256=source["sha256"],
                licence=source["licence"],
                licence_text=source.get("licence_text", ""),
            )
            for source in entry["sources"]
        )
        card = AssetCard(
            name=file.removesuffix(".card.json"),
            title=entry["name"],
            version=str(entry["version"]),
            description=entry["description"],
            licence=entry["licence"],
            attribution=entry["attribution"],
            sources=sources,
            sha256=entry["sha256"],
            built_by=entry["built_by"],
            used_at=entry["used_at"],
        )
    except FileNotFoundError as error:
        raise AssetError(f"{file} is missing. Reinstall lifemask.") from error
    except KeyError as error:
        raise AssetError(f"{file} lacks the entry {error}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise AssetError(f"{file} is not a card: {error}.") from error
    return card


def _is_card(path: Path) -> bool:
    return path.name.endswith(".card.json")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".card.json") if _is_card(path) else path.stem
