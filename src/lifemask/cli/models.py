"""`lifemask models`: all head models, networks and samples that ship, with their cards."""

import json
from dataclasses import asdict, dataclass

from lifemask.cli.exit_codes import DONE


@dataclass(frozen=True)
class Models:
    """List the head model, networks and samples that ship, with licence, source and sha256."""

    json: bool = False
    """Print the cards as JSON."""

    def run(self) -> int:
        """Print the cards and return the exit code."""
        from lifemask.morphable.assets import list_cards

        cards = list_cards()
        if self.json:
            print(json.dumps([asdict(card) for card in cards], indent=2, ensure_ascii=False))
            return DONE
        for card in cards:
            size = card.path.stat().st_size / 1e6
            print(f"{card.name}  (version {card.version}, {size:.1f} MB, {card.used_at})")
            print(f"  {card.description}")
            print(f"  licence  {card.licence}")
            for source in card.sources:
                print(
                    f"  source   {source.name} {source.version} ({source.licence}), {source.where}"
                )
            print(f"  sha256   {card.sha256}\n")
        return DONE
