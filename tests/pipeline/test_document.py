"""The JSON document holds the position of the head in its photo."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifemask.morphable.assets import RUN_TIME, list_models
from lifemask.pipeline.document import DocumentError, read_document
from lifemask.pipeline.reconstruction import FaceReconstruction


@pytest.fixture(scope="module")
def document(face: FaceReconstruction) -> dict[str, Any]:
    return json.loads(json.dumps(face.to_json_dict(), allow_nan=False))


def test_its_camera_puts_the_head_where_it_was_seen(
    face: FaceReconstruction, document: dict[str, Any]
) -> None:
    camera = document["camera"]
    pose = np.array(camera["head_to_camera"])
    for name in ("landmarks68", "landmarks68_outline"):
        points = getattr(face, name)().numpy() @ pose[:3, :3].T + pose[:3, 3]
        seen = camera["focal_pixels"] * points[:, :2] / points[:, 2:] + camera["principal_point"]
        np.testing.assert_allclose(seen, document[name], atol=0.05)


def test_its_landmarks_lie_around_the_face(document: dict[str, Any]) -> None:
    left, top, right, bottom = document["box_xyxy"]
    middle = np.mean(document["landmarks68"], axis=0)
    assert left < middle[0] < right
    assert top < middle[1] < bottom


def test_numbers_are_in_their_ranges(document: dict[str, Any]) -> None:
    weights = document["coefficients"]["expression"].values()
    assert len(weights) == 52
    assert all(0 <= weight <= 1 for weight in weights)
    texture = document["texture"]
    assert 0 < texture["observed_share"] + texture["mirrored_share"] < 1
    assert 0 <= document["confidence"] <= 1


def test_it_names_the_assets_behind_the_head(document: dict[str, Any]) -> None:
    assert [asset["name"] for asset in document["assets"]] == [
        card.name for card in list_models() if card.used_at == RUN_TIME
    ]
    assert "head/head" in {asset["name"] for asset in document["assets"]}


def test_it_says_whether_the_focal_length_of_the_photo_was_used(face: FaceReconstruction) -> None:
    def camera(focal_35mm: float | None, focal_dropped: str | None) -> dict[str, Any]:
        photo = dataclasses.replace(face.photo, focal_35mm=focal_35mm)
        fit = dataclasses.replace(face.fit, focal_dropped=focal_dropped)
        return dataclasses.replace(face, photo=photo, fit=fit).to_json_dict()["camera"]

    found = [camera(50.0, None), camera(None, None), camera(13.0, "the camera would be too near")]
    assert [each["focal_known"] for each in found] == [True, False, False]
    assert [each["focal_dropped"] for each in found] == [None, None, "the camera would be too near"]


def test_documents_of_both_schemas_are_read_with_the_present_names(tmp_path: Path) -> None:
    points = [[float(index), 0.5] for index in range(68)]
    first = {"schema": 1, "landmarks68": points, "confidence": 0.9}
    (tmp_path / "first.json").write_text(json.dumps(first))
    assert read_document(tmp_path / "first.json") == {
        "schema": 2,
        "landmarks68_outline": points,
        "confidence": 0.9,
    }
    second = {"schema": 2, "landmarks68": points, "landmarks68_outline": points[::-1]}
    (tmp_path / "second.json").write_text(json.dumps(second))
    assert read_document(tmp_path / "second.json") == second


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"schema": 3}', '{"schema": "1"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DocumentError, match=r"other\.json"):
        read_document(tmp_path / "other.json")
    with pytest.raises(DocumentError, match="missing"):
        read_document(tmp_path / "missing.json")
