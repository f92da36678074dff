"""Make trained weights an asset that ships: a copy, and a card that says what they learned from.

    python tools/release_system.py runs/direct_regression/weights.safetensors

Takes what `lifemask train` wrote: `weights.safetensors` and the `weights.json` beside it. Weights
that saw photos under research licences are refused. Afterwards, renew the file NOTICE with
`lifemask licenses --notice > NOTICE`.
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

TRUNKS = ("perception/face_mesh", "perception/face_mesh_profile")
"""Assets whose weights the networks start from; the second one's card names the open photos."""

GENERATED = ("head/head", "head/albedo", "wearables/wearables")
"""Assets that synthetic faces are drawn from; their attributions are passed on."""


def main() -> int:
    """Copy the weights and write their card; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="weights.safetensors of a training")
    parser.add_argument("--version", default="1", help="counts up with every release")
    parser.add_argument("--description", default="", help="one line; default: the recipe's")
    options = parser.parse_args()
    about = json.loads(options.weights.with_suffix(".json").read_text("utf-8"))
    if closed := not_open(about["data"]):
        print(f"These weights saw {', '.join(closed)}; only open photos may train what ships.")
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
    """Return the tiers and stores of fits in `weights.json` that are not open, by name."""
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
        data: the file's bytes.
        version: counts up with every release.
        description: one line; empty for that of the recipe.
    """
    cards = [_card(name) for name in (*TRUNKS, *GENERATED)]
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
            "recipe": recipe,
            "recipe_hash": about["recipe_hash"],
            "step": about["step"],
            "torch": about["torch"],
            "data": about["data"],
        },
        "sources": sources,
        "sha256": hashlib.sha256(data).hexdigest(),
        "built_by": "tools/release_system.py",
        "used_at": SYSTEMS,
    }


def _card(name: str) -> dict[str, Any]:
    return json.loads((ASSETS / f"{name}.card.json").read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
