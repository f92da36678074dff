"""`lifemask draw`: faces are drawn once, into a bank that many trainings read."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from lifemask.cli.exit_codes import DONE, FAILED, USAGE
from lifemask.training.config import TrainingError

if TYPE_CHECKING:
    from lifemask.data.bank.plan import BankPlan


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draw a bank of faces for trainings.

    The same command goes on where an earlier one stopped, and draws damaged parts again:
    lifemask draw banks/stills --count 50000 uniform_yaw=0.7 samples=1
    """

    output: tyro.conf.Positional[Path]
    """Folder of the bank."""
    options: tyro.conf.Positional[tuple[str, ...]] = ()
    """Options of the drawn faces, as name=value."""
    count: int
    """How many stills or clips the bank shall have; it can grow later."""
    kind: Literal["stills", "clips"] = "stills"
    """stills: one image of each person; clips: several frames of each person."""
    frames: int = 4
    """Frames of each clip."""
    size: int = 192
    """Pixels on a side of the frame around the face."""
    margin: float = 1.25
    """Side of the stored crop, in units of the frame: room for moved and turned frames."""
    maps: bool = False
    """Also store albedo and displacement in UV."""
    pixel_maps: bool = False
    """Also store normals and albedo of each pixel."""
    seed: int = 0
    """Seed of all random numbers."""
    part_size: int | None = None
    """Stills or clips in each part; default: so many that a part has 500 images."""
    parts: tuple[int, ...] = ()
    """Draw only the parts of these numbers; default: all that are missing or damaged."""
    data: Path | None = None
    """Folder with stored fits; default: the environment variable LIFEMASK_DATA."""
    stores: tuple[str, ...] = ("fits/open-*.tar",)
    """Stored fits under the data folder: they are re-rendered, and are the background of faces."""
    rerendered: float | None = None
    """Share of re-rendered fits among stills; default: 0.4 if there are stored fits, else 0."""
    processes: int | None = None
    """Processes that draw; default: one per core."""

    def run(self) -> int:
        """Draw what is missing, and return the exit code."""
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
        from lifemask.data.bank.drawing import draw_bank
        from lifemask.data.bank.plan import BankError
        from lifemask.data.photos import ShardError
        from lifemask.data.stored_fits import StoredFitError
        from lifemask.io.files import OutputError

        try:
            stores = self._stores()
            plan = self._plan(stores)
        except (TrainingError, ShardError, ValueError) as error:
            print(error, file=sys.stderr)
            return USAGE
        try:
            drawn = draw_bank(
                self.output,
                plan,
                stores,
                processes=self.processes or os.cpu_count() or 1,
                only=self.parts,
            )
        except (BankError, OutputError, StoredFitError) as error:
            print(error, file=sys.stderr)
            return FAILED
        print(f"{self.output}: {drawn} of {len(plan.parts)} parts drawn, the others were complete")
        return DONE

    def _stores(self) -> list[Path]:
        """Return the stored fits; without data, none are needed by default."""
        from lifemask.data.photos import ShardError, find_files

        named = os.environ.get("LIFEMASK_DATA")
        data = self.data or (Path(named) if named else None)
        try:
            return find_files(data, self.stores)
        except ShardError:
            if self.rerendered:
                raise
            return []

    def _plan(self, stores: list[Path]) -> "BankPlan":
        from lifemask.data.bank.drawing import fit_sums
        from lifemask.data.bank.plan import BankPlan, crop_config
        from lifemask.data.bank.version import generator_version
        from lifemask.data.synthetic.config import SyntheticConfig
        from lifemask.training.overrides import with_options

        for option in self.options:
            if option.partition("=")[0] in ("size", "margin"):
                raise TrainingError(f"Write --{option.replace('=', ' ')} instead of {option}.")
        config = with_options(SyntheticConfig(), self.options)
        frames = self.frames if self.kind == "clips" else 1
        share = self.rerendered
        if share is None:
            share = 0.4 if stores and self.kind == "stills" else 0.0
        return BankPlan(
            self.kind,
            self.count,
            crop_config(config, self.size, self.margin),
            self.seed,
            generator_version(),
            frames=frames,
            part_size=max(500 // max(frames, 1), 1) if self.part_size is None else self.part_size,
            maps=self.maps,
            pixel_maps=self.pixel_maps,
            rerendered=share,
            stores=fit_sums(stores),
        )
