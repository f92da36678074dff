"""The benchmark finds people where their labels say, and counts a wrong label as a failure."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.evaluation.benchmarks import gross
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.run import evaluate
from lifemask.perception import FacePerception
from lifemask.perception.correspondences import AFLW21_FROM_DENSE478


def write_shard(path: Path, photos: list[Image.Image], labels: list[np.ndarray]) -> None:
    """Write crops of 120 pixels; two after the other have yaws of one bin: 0, 45, 80 degrees."""
    with tarfile.open(path, "w") as archive:
        for number, (photo, points) in enumerate(zip(photos, labels, strict=True)):
            image = io.BytesIO()
            photo.save(image, "JPEG", quality=95)
            about = {"landmarks21_xy": points.tolist(), "yaw_degrees": (0, 45, 80)[number // 2]}
            for suffix, data in (("jpg", image.getvalue()), ("json", json.dumps(about).encode())):
                member = tarfile.TarInfo(f"aflw_{number}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_people_are_found_and_a_wrong_label_is_a_gross_failure(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos: list[Image.Image] = []
    labels: list[np.ndarray] = []
    perception = FacePerception.from_pretrained()
    for number in (1, 2, 3):
        photo = Image.open(samples / f"portrait_{number}.jpg").convert("RGB").resize((120, 120))
        seen = perception.observe_crop(np.array(photo), quality="fast").landmarks478
        photos += [photo, photo]
        labels += [seen[list(AFLW21_FROM_DENSE478), :2].double().numpy()] * 2
    labels[5] = 120.0 - labels[5]  # The last person's label is upside down.
    (tmp_path / "dev").mkdir()
    (tmp_path / "train").mkdir()
    write_shard(tmp_path / "train" / "research-aflw-000.tar", photos, labels)
    kind = gross.SceneKind("large", (100.0, 120.0), 5.0)
    monkeypatch.setattr(gross, "SCENE_KINDS", (kind,))
    (report,) = evaluate("gross", EvaluationConfig(data=tmp_path))
    for row in ("large", "cut to the face (--crop)"):
        cells = {name: report.table.cell(row, name) for name in ("0–30", "30–60", "over 60")}
        assert [cell.value for cell in cells.values()] == [0.0, 0.0, 100.0]
        assert cells["over 60"].note == "1 of 1"
        assert report.table.cell(row, "misplaced").value == 1


def test_missing_training_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "train").mkdir()
    with pytest.raises(EvaluationError, match=r"no research-aflw-\*\.tar"):
        next(evaluate("gross", EvaluationConfig(data=tmp_path)))
