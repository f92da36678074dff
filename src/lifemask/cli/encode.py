"""`lifemask encode`: what frozen layers see in a bank is computed once, for many trainings."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, USAGE
from lifemask.training.config import TrainingError
from lifemask.training.overrides import with_overrides


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Encode the bank of a recipe for faster trainings.

    Each face is varied as the recipe says, and passes the layers of the system that never learn.
    Training then reads the results: lifemask train RECIPE sources.bank.encoded=OUTPUT. The same command
    goes on where an earlier one stopped: lifemask encode dense_landmarks banks/encoded --copies 3
    """

    recipe: tyro.conf.Positional[str]
    """Name of the recipe."""
    output: tyro.conf.Positional[Path]
    """Folder of the encoded bank."""
    changes: tyro.conf.Positional[tuple[str, ...]] = ()
    """Changes of the recipe, as path=value."""
    source: str | None = None
    """Name of the bank among the recipe's sources; default: the only one."""
    copies: int = 1
    """Variations of each face; it can grow later."""
    data: Path | None = None
    """Folder under which the recipe's bank is; default: the environment variable LIFEMASK_DATA."""
    processes: int | None = None
    """Processes that encode; default: one per core."""

    def run(self) -> int:
        """Encode what is missing, and return the exit code."""
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
        from lifemask.data.bank.plan import BankError
        from lifemask.io.files import OutputError
        from lifemask.systems.registry import build_system, find_recipe
        from lifemask.training.encoding import encode_bank

        named = os.environ.get("LIFEMASK_DATA")
        try:
            recipe = with_overrides(find_recipe(self.recipe), self.changes)
        except TrainingError as error:
            print(error, file=sys.stderr)
            return USAGE
        try:
            made = encode_bank(
                recipe,
                build_system,
                self.data or (Path(named) if named else None),
                self.output,
                source=self.source,
                copies=self.copies,
                processes=self.processes or os.cpu_count() or 1,
            )
        except (BankError, OutputError, TrainingError) as error:
            print(error, file=sys.stderr)
            return FAILED
        print(f"{self.output}: {made} parts encoded, the others were complete")
        return DONE
