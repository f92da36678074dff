"""Make trained weights a shipped asset: copy them and write a card with their training data.

    python tools/release_system.py runs/direct_regression/weights.safetensors

Reads the files that `lifemask train` wrote: `weights.safetensors` and the `weights.json` beside it.
Weights that were trained on photos under research licences are refused. Afterwards, update the file
NOTICE with `lifemask licenses --notice > NOTICE`.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from lifemask.io.files import make_folder, write_bytes, write_json
from lifemask.morphable.assets import ASSETS, SYSTEMS
from lifemask.networks.released import read_weights
from lifemask.systems.registry import system_class

GENERATED = ("head/head", "head/albedo", "wearables/wearables")
"""Assets of drawn faces and re-rendered fits; their attributions are passed on."""


def main() -> int:
    """Copy the weights and write their card; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="weights.safetensors of a training")
    parser.add_argument("--version", default="1", help="increases with every release")
    parser.add_argument("--description", default="", help="one line; default: the recipe's")
    options = parser.parse_args()
    about = json.loads(options.weights.with_suffix(".json").read_text("utf-8"))
    if closed := not_open(about["data"]):
        print(
            f"These weights were trained on {', '.join(closed)}; shipped weights may only be "
            "trained on open photos."
        )
        return 1
    system = read_weights(options.weights).system
    data = options.weights.read_bytes()
    card = system_card(about, data, version=options.version, description=options.description)
    folder = make_folder(ASSETS / "systems")
    write_bytes(folder / f"{system}.safetensors", data)
    write_json(folder / f"{system}.card.json", card)
    print(f"Wrote {folder / system}.safetensors, {len(data) / 1e6:.1f} MB, and its card.")
    return 0


def not_open(data: dict[str, Any]) -> list[str]:
    """Return the names of tiers and stored fits in `weights.json` that are not open."""
    found: list[str] = []
    for source in data.values():
        found += [tier for tier in source.get("tiers", ()) if tier != "open"]
        found += [name for name in source.get("stores", ()) if not name.startswith("open-")]
    return sorted(set(found))


def system_card(
    about: dict[str, Any], data: bytes, *, version: str, description: str
) -> dict[str, Any]:
    """Return the card of trained weights.

    Args:
        about: `weights.json`.
        data: the bytes of the weights file.
        version: increases with every release.
        description: one line; if empty, that of the recipe.
    """
    first_weights = system_class(about["system"]).first_weights
    cards = [_card(name) for name in (*first_weights, *GENERATED)]
    sources: list[dict[str, Any]] = []
    credits: list[str] = []
    for card in cards:
        credits += [part for part in card["attribution"].split("; ") if part]
        known = {(source["name"], source["where"]) for source in sources}
        sources += [s for s in card["sources"] if (s["name"], s["where"]) not in known]
    recipe = about["recipe"]
    return {
        "name": f"systems/{about['system']}",
        "version": version,
        "description": description or recipe.get("description", about["system"]),
        "licence": "Apache-2.0",
        "attribution": "; ".join(dict.fromkeys(credits)),
        "trained": {
            "recipe": portable(recipe),
            "recipe_hash": about["recipe_hash"],
            "step": about["step"],
            "torch": about["torch"],
            "data": portable(about["data"]),
        },
        "sources": sources,
        "sha256": hashlib.sha256(data).hexdigest(),
        "built_by": "tools/release_system.py",
        "used_at": SYSTEMS,
    }


def portable(value: Any) -> Any:
    """Return JSON values with the last part alone of paths that hold only on this machine."""
    if isinstance(value, dict):
        return {name: portable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [portable(part) for part in value]
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_path else value


def _card(name: str) -> dict[str, Any]:
    return json.loads((ASSETS / f"{name}.card.json").read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
