"""Tables of figures with their uncertainty, as text, Markdown or JSON."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifemask.evaluation.config import EvaluationError

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One figure."""

    value: float | None = None
    """The figure; None if the row cannot have one."""
    plus_minus: float | None = None
    """Half the width of its 95 % interval."""
    note: str = ""
    """Text after the figure, such as "6 of 8"."""

    def text(self, decimals: int) -> str:
        """Return the figure with its uncertainty and note; a dash if there is none."""
        if self.value is None or not math.isfinite(self.value):
            return self.note or DASH
        text = f"{self.value:.{decimals}f}"
        if self.plus_minus is not None and math.isfinite(self.plus_minus):
            text += f" ±{self.plus_minus:.{decimals}f}"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class Column:
    """The heading and format of one column."""

    name: str
    """Heading, with the unit."""
    decimals: int = 2
    """Digits after the point."""
    bar: str = ""
    """The target value, such as "≤ 4.1"; empty: none."""


@dataclass(frozen=True)
class Row:
    """One system, or a reference to compare systems with."""

    name: str
    """Label of the row."""
    cells: dict[str, Cell]
    """Cells by name of the column; missing cells are dashes."""
    reference: bool = False
    """Whether it is a simple method or a limit, not a system."""


@dataclass(frozen=True)
class Table:
    """The results of one benchmark."""

    name: str
    """Name of the benchmark."""
    title: str
    """One line about what is measured."""
    columns: tuple[Column, ...]
    """Columns from left to right."""
    rows: tuple[Row, ...]
    """Rows from top to bottom."""
    notes: tuple[str, ...] = ()
    """Definitions and counts, one sentence each."""

    def cell(self, row: str, column: str) -> Cell:
        """Return a cell by the names of its row and column; a dash if the cell is missing.

        Raises:
            KeyError: there is no such row.
        """
        for candidate in self.rows:
            if candidate.name == row:
                return candidate.cells.get(column, Cell())
        raise KeyError(f"No row {row!r}. Rows: {[r.name for r in self.rows]}.")


@dataclass(frozen=True)
class Report:
    """A table and its provenance."""

    table: Table
    """The figures."""
    provenance: dict[str, str]
    """Versions, commit, seed, options, machine, date and duration."""


def _grid(table: Table) -> list[list[str]]:
    lines = [["", *(c.name for c in table.columns)]]
    for row in table.rows:
        texts = [row.cells.get(c.name, Cell()).text(c.decimals) for c in table.columns]
        lines.append([row.name, *texts])
    if any(c.bar for c in table.columns):
        lines.append(["bar", *(c.bar for c in table.columns)])
    return lines


def as_text(report: Report) -> str:
    """Return a report for a terminal."""
    grid = _grid(report.table)
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
    lines = [f"{report.table.name}: {report.table.title}"]
    for line in grid:
        first, *rest = (t.ljust(w) if i == 0 else t.rjust(w) for i, (t, w) in _pairs(line, widths))
        lines.append("  ".join([first, *rest]).rstrip())
    lines += [f"  {note}" for note in report.table.notes]
    lines.append("  " + ", ".join(f"{k} {v}" for k, v in report.provenance.items()))
    return "\n".join(lines)


def as_markdown(report: Report, *, level: int = 2) -> str:
    """Return a report as a Markdown section whose heading has the given level."""
    head, *body = _grid(report.table)
    bold = [f"**{t}**" if t and i else t for i, t in enumerate(head)]
    lines = [
        f"{'#' * level} {report.table.name}: {report.table.title}",
        "",
        "| " + " | ".join(bold) + " |",
        "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|",
        *("| " + " | ".join(line) + " |" for line in body),
        "",
        *(f"- {note}" for note in report.table.notes),
        "",
        "*" + ", ".join(f"{k} {v}" for k, v in report.provenance.items()) + ".*",
        "",
    ]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Return a report as JSON, which `report_from_json` reads."""
    return json.dumps(_finite(asdict(report)), indent=1, ensure_ascii=False) + "\n"


def report_from_json(text: str) -> Report:
    """Return the report that `as_json` wrote.

    Raises:
        EvaluationError: the text is not such a report.
    """
    try:
        data = json.loads(text)
        table = data["table"]
        rows = [
            Row(r["name"], {k: Cell(**c) for k, c in r["cells"].items()}, r["reference"])
            for r in table["rows"]
        ]
        return Report(
            Table(
                table["name"],
                table["title"],
                tuple(Column(**c) for c in table["columns"]),
                tuple(rows),
                tuple(table["notes"]),
            ),
            data["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"Not a report of `lifemask evaluate --output` ({type(error).__name__}: {error})."
        ) from error


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write NAME.md and NAME.json to a folder, which is created if needed; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    markdown, data = (folder / f"{report.table.name}.{e}" for e in ("md", "json"))
    markdown.write_text(as_markdown(report), encoding="utf-8")
    data.write_text(as_json(report), encoding="utf-8")
    return markdown, data


def benchmarks_page(reports: list[Report]) -> str:
    """Return the Markdown page with all reports, `docs/benchmarks.md`."""
    head = (
        "# Benchmarks\n\n"
        "Every table comes from `lifemask evaluate NAME --output DIR`; this page is made from its "
        "JSON by `python benchmarks/evaluate.py DIR docs/benchmarks.md`. Figures after ± are half "
        "of a 95 % bootstrap interval over people (over photos where people are not known). A "
        "dash means that a program does not give what the figure needs, or that none of its "
        "predictions is stored; the last note under each table says which.\n\n"
        "Any other program can be evaluated too: write one `.npz` for each photo with the arrays "
        "of `lifemask reconstruct --arrays` (any subset; a missing one gives a dash) as "
        "`FOLDER/aflw21/KEY.npz`, `FOLDER/yaleb/PERSON__LIGHT.npz`, `FOLDER/photos/NAME.npz` or "
        "`FOLDER/synthetic/KEY.npz`, and name the folder with `--systems`. The photos of "
        "`synthetic` are drawn by the command; `lifemask evaluate synthetic --write-photos DIR` "
        "writes them as `DIR/synthetic/KEY.png` for programs that run elsewhere; the same holds "
        "for `synthetic_detail`. The other sets are in the data folder.\n"
    )
    return "\n".join([head, *(as_markdown(report) for report in reports)])


def _pairs(line: list[str], widths: list[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(line, widths, strict=True)))


def _finite(value: Any) -> Any:
    """Replace values that JSON cannot hold (NaN and infinities) by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]  # pyright: ignore
    return value
