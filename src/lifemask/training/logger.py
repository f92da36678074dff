"""The log of a training: lines of JSON, pictures, and TensorBoard where it is installed."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.io.colour import pixels_from_image
from lifemask.io.files import OutputError, make_folder
from lifemask.io.images import write_image

logger = logging.getLogger(__name__)


class TrainingLogger:
    """Appends to `log.jsonl`, `tensorboard/` and `panels/` of a folder.

    A full disk never stops the training: what cannot be written is reported once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)
        self._board = _tensorboard(folder / "tensorboard")
        self._reported = False

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one line; numbers, also in nested mappings, go to TensorBoard too."""
        line = {"kind": kind, "step": step, "time": _now(), **values}
        text = json.dumps(_rounded(line), ensure_ascii=False)
        try:
            with open(self._folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(text + "\n")
            if self._board is not None and kind in ("train", "validation"):
                for name, value in _scalars(values, kind):
                    self._board.add_scalar(name, value, step)
        except OSError as error:
            self._report(error)

    def picture(self, step: int, name: str, rows: Float[Tensor, "B panels 3 S S"]) -> None:
        """Write a sheet: one row per face, one column per panel, linear RGB in [0, 1]."""
        sheet = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
        pixels = pixels_from_image(sheet.float().cpu())
        try:
            folder = make_folder(self._folder / "panels")
            write_image(folder / f"{name}-{step:08d}.png", pixels)
            if self._board is not None:
                self._board.add_image(name, np.asarray(pixels), step, dataformats="HWC")
                self._board.flush()
        except OSError as error:
            self._report(error)

    def close(self) -> None:
        """Write what TensorBoard still has in memory."""
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _report(self, error: OSError) -> None:
        if not self._reported:
            self._reported = True
            reason = error if isinstance(error, OutputError) else f"{type(error).__name__}: {error}"
            logger.warning("The log has gaps from here on. %s Training goes on.", reason)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info(
            "TensorBoard is not installed; the log is log.jsonl alone. "
            "For curves: pip install 'lifemask[train]'."
        )
        return None
    return SummaryWriter(str(folder))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _rounded(value: Any) -> Any:
    """Return JSON values with floats of six digits; those that are not finite become text."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _rounded(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(child) for child in value]
    return value


def _scalars(values: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}/{name}", float(value)))
    return found
