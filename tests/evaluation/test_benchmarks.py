"""Benchmarks reproduce published figures of stored outputs; perfect predictions have no error."""

from pathlib import Path

import numpy as np
import pytest

from lifemask.cli.evaluate import Evaluate
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.datasets import (
    draw,
    identity_pairs,
    read_aflw21,
    read_photos,
    read_yaleb,
)
from lifemask.evaluation.run import evaluate
from lifemask.evaluation.tables import Table


def table(name: str, data: Path, *systems: str) -> Table:
    (report,) = evaluate(name, EvaluationConfig(systems=systems, data=data))
    return report.table


def test_aflw21_figures_of_3ddfa_v2(shared_data: Path) -> None:
    found = table("aflw21", shared_data, "3ddfa_v2")
    expected = {
        "native": (4.01, 4.67, 4.79, 4.49),
        "table": (4.61, 5.40, 5.65, 5.22),
    }
    for kind, figures in expected.items():
        for name, figure in zip(("0–30", "30–60", "over 60", "mean"), figures, strict=True):
            cell = found.cell("3ddfa_v2", f"{kind} {name}")
            assert cell.value == pytest.approx(figure, abs=0.011)
    width = found.cell("3ddfa_v2", "native mean").plus_minus
    assert width == pytest.approx(0.2, abs=0.05)


def test_yaleb_figures_of_3ddfa_v2_and_of_the_references(shared_data: Path) -> None:
    found = table("yaleb", shared_data, "3ddfa_v2")
    average, limit = "average of the others", "photometric stereo (limit)"
    expected = [
        ("3ddfa_v2", "normals °", 12.5, 0.06),
        ("3ddfa_v2", "others' mean °", 12.8, 0.06),
        ("3ddfa_v2", "individuality low", 0.37, 0.006),
        ("3ddfa_v2", "individuality high", 0.20, 0.006),
        ("3ddfa_v2", "stability", 0.53, 0.006),
        ("3ddfa_v2", "relit frontal %", 13.9, 0.06),
        ("3ddfa_v2", "relit side %", 21.6, 0.06),
        ("flat", "normals °", 35.3, 0.06),
        (average, "relit frontal %", 13.6, 0.06),
        (average, "relit side %", 20.4, 0.06),
        (limit, "relit frontal %", 8.0, 0.06),
        (limit, "relit side %", 10.3, 0.06),
        ("photo unchanged", "relit frontal %", 28.5, 0.06),
        ("photo unchanged", "relit side %", 43.7, 0.06),
    ]
    for row, column, figure, tolerance in expected:
        assert found.cell(row, column).value == pytest.approx(figure, abs=tolerance), (row, column)
    assert found.cell("3ddfa_v2", "individuality low").note == "6 of 8"
    assert found.cell("3ddfa_v2", "individuality high").note == "4 of 8"
    assert found.cell("3ddfa_v2", "albedo side %").value is None


def test_true_predictions_in_a_folder_have_no_error(shared_data: Path, tmp_path: Path) -> None:
    for crop in read_aflw21(shared_data / "dev"):
        (tmp_path / "aflw21").mkdir(exist_ok=True)
        points = np.nan_to_num(crop.landmarks)
        np.savez(tmp_path / "aflw21" / f"{crop.key}.npz", aflw21=points)
    (tmp_path / "yaleb").mkdir()
    for person in read_yaleb(shared_data / "dev"):
        for light in person.light_directions:
            np.savez(
                tmp_path / "yaleb" / f"{person.name}__{light}.npz",
                normals=person.normals,
                mask=np.ones_like(person.skin),
            )
    landmarks = table("aflw21", shared_data, str(tmp_path))
    assert landmarks.cell(tmp_path.name, "native mean").value == pytest.approx(0, abs=1e-9)
    assert landmarks.cell(tmp_path.name, "table mean").value is None
    normals = table("yaleb", shared_data, str(tmp_path))
    assert normals.cell(tmp_path.name, "normals °").value == pytest.approx(0, abs=0.1)
    assert normals.cell(tmp_path.name, "individuality low").value == pytest.approx(1, abs=1e-6)
    assert normals.cell(tmp_path.name, "stability").value == pytest.approx(0, abs=1e-3)
    assert normals.cell(tmp_path.name, "relit side %").value == pytest.approx(10.3, abs=0.06)


def test_sets_have_their_documented_counts(shared_data: Path) -> None:
    crops = read_aflw21(shared_data / "dev")
    assert len(crops) == 899
    people = read_yaleb(shared_data / "dev")
    assert len(people) == 8
    photos = read_photos(shared_data / "dev")
    assert len(photos) == 326
    pairs = identity_pairs(photos)
    assert len(pairs) == 24
    drawn = draw(photos, 60, seed=0)
    assert len({p.key for p in drawn}) == 60
    assert drawn == draw(photos, 60, seed=0)
    assert drawn != draw(photos, 60, seed=1)


def test_unknown_names_and_missing_data_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIFEMASK_DATA", raising=False)
    with pytest.raises(EvaluationError, match="Known: aflw21, gross, synthetic"):
        next(evaluate("now", EvaluationConfig(data=tmp_path)))
    with pytest.raises(EvaluationError, match="--data"):
        next(evaluate("aflw21", EvaluationConfig()))
    with pytest.raises(EvaluationError, match="has no folder dev/"):
        next(evaluate("aflw21", EvaluationConfig(data=tmp_path)))
    (tmp_path / "dev").mkdir()
    with pytest.raises(EvaluationError, match=r"aflw21-000\.tar is missing"):
        next(evaluate("aflw21", EvaluationConfig(data=tmp_path)))


def test_the_former_name_of_a_benchmark_runs_it_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Evaluate("steadiness", EvaluationConfig(data=tmp_path)).run()
    note, *rest = capsys.readouterr().err.splitlines()
    assert note == "steadiness is now called jitter"
    assert "Unknown benchmark" not in "".join(rest)
