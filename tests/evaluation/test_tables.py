"""Tables have the same content as text, Markdown and JSON."""

import pytest

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.tables import (
    Cell,
    Column,
    Report,
    Row,
    Table,
    as_json,
    as_markdown,
    as_text,
    benchmarks_page,
    report_from_json,
)

REPORT = Report(
    Table(
        "sizes",
        "how large things are",
        (Column("metres", 1, "≤ 2"), Column("count", 0)),
        (
            Row("ours", {"metres": Cell(1.23, 0.45), "count": Cell(6, note="of 8")}),
            Row("theirs", {"metres": Cell(float("nan"))}, reference=True),
        ),
        ("metres: the longest side.",),
    ),
    {"seed": "0", "machine": "a machine"},
)


def test_a_missing_figure_is_a_dash_and_uncertainty_is_printed() -> None:
    lines = as_text(REPORT).splitlines()
    assert lines[2].split() == ["ours", "1.2", "±0.5", "6", "(of", "8)"]
    assert lines[3].split() == ["theirs", "–", "–"]
    assert lines[4].split() == ["bar", "≤", "2"]


def test_markdown_has_one_cell_for_each_column() -> None:
    rows = [line for line in as_markdown(REPORT).splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert {row.count("|") for row in rows} == {4}


def test_json_comes_back_with_undefined_figures_as_missing() -> None:
    back = report_from_json(as_json(REPORT))
    assert back.table.cell("ours", "metres") == Cell(1.23, 0.45)
    assert back.table.cell("theirs", "metres") == Cell()
    assert back.provenance == REPORT.provenance
    assert as_markdown(back) == as_markdown(REPORT)


def test_other_json_is_refused() -> None:
    with pytest.raises(EvaluationError, match="Not a report"):
        report_from_json('{"rows": []}')


def test_the_page_holds_every_report() -> None:
    page = benchmarks_page([REPORT, REPORT])
    assert page.count("## sizes: how large things are") == 2
    assert page.startswith("# Benchmarks\n")


def test_the_page_says_why_a_cell_is_empty_and_how_others_are_evaluated() -> None:
    page = benchmarks_page([REPORT])
    assert "dash" in page
    assert "--write-photos" in page
    assert "FOLDER/synthetic/KEY.npz" in page
