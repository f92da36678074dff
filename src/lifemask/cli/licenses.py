"""`lifemask licenses`: credits, and a check of the licence of every shipped file."""

import sys
from dataclasses import dataclass

from lifemask.cli.exit_codes import DONE, FAILED


@dataclass(frozen=True)
class Licenses:
    """Print the licence and the credit line of every data file that ships."""

    audit: bool = False
    """Check every file and card instead; exit code 1 if there are problems."""
    notice: bool = False
    """Print the text that the file NOTICE must contain."""

    def run(self) -> int:
        """Print the licences, the problems or the notice, and return the exit code."""
        from lifemask.morphable.assets import audit, list_cards, notice

        if self.audit:
            problems = audit()
            print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
            if not problems:
                print(f"{len(list_cards())} assets, each with a card and an allowed licence.")
            return FAILED if problems else DONE
        if self.notice:
            print(notice(), end="")
            return DONE
        print("lifemask itself: Apache-2.0\n")
        for card in list_cards():
            print(f"{card.name}: {card.licence}")
            if card.attribution:
                print(f"  {card.attribution}")
            for source in card.sources:
                print(f"  from {source.name} {source.version}: {source.licence}")
        return DONE
