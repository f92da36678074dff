"""Photos are predicted once, also by several processes; the cache uses content and version."""

from pathlib import Path

import numpy as np
import pytest

from lifemask.evaluation import collect as module
from lifemask.evaluation.cache import PredictionCache
from lifemask.evaluation.collect import Request, collect
from lifemask.evaluation.config import EvaluationConfig, EvaluationError, Quality
from lifemask.evaluation.predictions import Prediction


class CountingSystem:
    """Predicts the mean colour as landmarks; finds no face in black photos."""

    def __init__(self, version: str = "1") -> None:
        self.name, self.version, self.asked = "counting", version, 0

    def predict(
        self,
        pixels: np.ndarray,
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        self.asked += 1
        if pixels.max() == 255:
            raise RuntimeError("too bright")
        if pixels.max() == 0:
            return None
        return Prediction(
            landmarks68=np.full((68, 2), float(pixels.mean())), mask=np.ones((2, 2), bool)
        )


def requests(*values: int, quality: Quality = "fast") -> list[Request]:
    return [
        Request(
            f"photo{v}",
            lambda v=v: np.full((4, 4, 3), v, np.uint8),
            False,
            quality,
            ("landmarks68",),
        )
        for v in values
    ]


@pytest.fixture
def config(tmp_path: Path) -> EvaluationConfig:
    (tmp_path / "dev").mkdir()
    return EvaluationConfig(data=tmp_path, cache=tmp_path / "cache")


def use(monkeypatch: pytest.MonkeyPatch, system: CountingSystem) -> CountingSystem:
    monkeypatch.setattr(module, "load_system", lambda name, development: system)
    return system


def test_finished_photos_are_not_predicted_again(
    monkeypatch: pytest.MonkeyPatch, config: EvaluationConfig
) -> None:
    system = use(monkeypatch, CountingSystem())
    first = collect("counting", "any", requests(0, 10), config)
    again = collect("counting", "any", requests(0, 10, 20), config)
    assert system.asked == 3
    assert first["photo0"] is None
    assert again["photo0"] is None
    assert again["photo10"] is not None
    assert set(again["photo10"].arrays()) == {"landmarks68"}
    np.testing.assert_array_equal(again["photo10"].landmarks68, first["photo10"].landmarks68)


def test_another_quality_version_or_photo_is_predicted(
    monkeypatch: pytest.MonkeyPatch, config: EvaluationConfig
) -> None:
    system = use(monkeypatch, CountingSystem())
    collect("counting", "any", requests(10), config)
    collect("counting", "any", requests(10, quality="full"), config)
    assert system.asked == 2
    newer = use(monkeypatch, CountingSystem("2"))
    collect("counting", "any", requests(10), config)
    assert newer.asked == 1


def test_what_was_finished_before_a_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch, config: EvaluationConfig
) -> None:
    system = use(monkeypatch, CountingSystem())
    with pytest.raises(EvaluationError, match="failed on photo 'photo255' with RuntimeError"):
        collect("counting", "any", requests(10, 255), config)
    collect("counting", "any", requests(10), config)
    assert system.asked == 2


def test_a_damaged_file_is_predicted_again(
    monkeypatch: pytest.MonkeyPatch, config: EvaluationConfig
) -> None:
    system = use(monkeypatch, CountingSystem())
    collect("counting", "any", requests(10), config)
    for file in (config.cache or Path()).rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:50])
    collect("counting", "any", requests(10), config)
    assert system.asked == 2


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PredictionCache(tmp_path)

    def full_disk(*arguments: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        cache.write(tmp_path / "x.npz", Prediction(landmarks68=np.zeros((68, 2))))
    assert not list(tmp_path.iterdir())
