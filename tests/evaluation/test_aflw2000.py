"""AFLW2000-3D in both layouts: true predictions have no error, known shifts have known errors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lifemask.evaluation.aflw2000 import CROP_SIZE, read_aflw2000
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.run import evaluate
from lifemask.evaluation.systems.landmarks import LandmarkSystem
from lifemask.evaluation.tables import Table

YAWS = {"face_a": 10.0, "face_b": -20.0, "face_c": 45.0, "face_d": -80.0}
SIZE = (300, 360)


def marked_points(seed: int) -> np.ndarray:
    """Return 68 points of a photo, pixels with the centre of the first pixel at 0.5."""
    points = np.random.default_rng(seed).uniform([110, 90], [250, 210], (68, 2))
    # The box is known: 140 x 120 pixels.
    points[0], points[1] = (110, 90), (250, 210)
    return points


def write_photos(folder: Path) -> dict[str, np.ndarray]:
    """Write the layout of photos and return the true points by name."""
    truth = dict[str, np.ndarray]()
    for seed, (name, yaw) in enumerate(YAWS.items()):
        rows, columns = np.indices(SIZE)
        photo = np.stack([columns % 256, rows % 256, np.full(SIZE, 40 * seed)], -1)
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"{name}.jpg", quality=95)
        truth[name] = marked_points(seed)
        # MATLAB counts pixels from 1.
        points = np.concatenate([truth[name].T + 0.5, np.zeros((1, 68))])
        pose = np.radians([[3.0, yaw, 5.0, 0, 0, 0, 0]])
        savemat(folder / f"{name}.mat", {"pt3d_68": points, "Pose_Para": pose})
    return truth


def write_arrays(photos: Path, folder: Path) -> None:
    """Write the same faces in the layout of arrays, spread over two folders as in 3DDFA."""
    faces = read_aflw2000(photos)
    (folder / "test.configs").mkdir(parents=True)
    crops = folder / "test.data" / "AFLW2000-3D_crop"
    crops.mkdir(parents=True)
    for face in faces:
        Image.fromarray(face.crop()).save(crops / f"{face.key}.jpg", quality=95)
    configs = folder / "test.configs"
    boxes = np.add([face.box for face in faces], [1, 1, 0, 0])
    np.save(configs / "AFLW2000-3D_crop.roi_box.npy", boxes)
    np.save(configs / "AFLW2000-3D.pose.npy", [YAWS[face.key] for face in faces])
    np.save(
        configs / "AFLW2000-3D.pts68.npy", np.stack([face.landmarks68.T + 0.5 for face in faces])
    )
    names = "".join(f"{face.key}.jpg\n" for face in faces)
    (folder / "test.data" / "AFLW2000-3D_crop.list").write_text(names)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_photos(folder)
    return folder


@pytest.fixture
def arrays(photos: Path, tmp_path: Path) -> Path:
    write_arrays(photos, tmp_path / "arrays")
    return tmp_path / "arrays"


def table(data: Path, *systems: str) -> Table:
    (report,) = evaluate("aflw2000", EvaluationConfig(systems=systems, data=data))
    return report.table


def write_predictions(data: Path, folder: Path, shift: np.ndarray) -> None:
    """Write the true points, moved by a number of photo pixels, as the predictions of a program."""
    (folder / "aflw2000").mkdir(parents=True)
    for face in read_aflw2000(data):
        points = face.landmarks68 + shift
        np.savez(folder / "aflw2000" / f"{face.key}.npz", landmarks68=points)
        left, top, right, bottom = face.box
        scale = CROP_SIZE / np.array([right - left, bottom - top])
        crop_points = (points - [left, top]) * scale
        np.savez(folder / "aflw2000" / f"{face.key}__crop.npz", landmarks68=crop_points)


def test_both_layouts_give_the_same_faces(photos: Path, arrays: Path) -> None:
    for one, other in zip(read_aflw2000(photos), read_aflw2000(arrays), strict=True):
        assert one.key == other.key
        assert one.box == other.box
        assert one.yaw_degrees == pytest.approx(abs(YAWS[one.key]))
        assert other.yaw_degrees == pytest.approx(abs(YAWS[one.key]))
        np.testing.assert_allclose(one.landmarks68, other.landmarks68)
        np.testing.assert_allclose(one.landmarks68, marked_points(int(ord(one.key[-1]) - 97)))
        assert other.photo is None
        assert np.abs(one.crop().astype(int) - other.crop()).mean() < 2


def test_the_crop_shows_what_the_photo_shows_at_the_mapped_points(photos: Path) -> None:
    """Red and green of these photos are the pixel's column and row."""
    face = read_aflw2000(photos)[0]
    rows, columns = np.indices((CROP_SIZE, CROP_SIZE))[:, 5:-5, 5:-5].reshape(2, -1)
    # A box around 140 x 120 pixels: its side is the diagonal of 140 x 140 pixels.
    left, top, right, bottom = face.box
    assert right - left == pytest.approx(140 * np.sqrt(2), abs=2)
    assert bottom - top == right - left
    x, y = face.photo_points(np.stack([columns, rows], -1) + 0.5).T
    seen = face.crop()[rows, columns].astype(float)
    inside = (x > 5) & (x < 250) & (y > 5) & (y < 250)
    assert inside.sum() > 1000
    # A pixel whose centre is at c + 0.5 has the colour c.
    np.testing.assert_allclose(seen[inside, 0].mean(), (x[inside] - 0.5).mean(), atol=0.2)
    np.testing.assert_allclose(seen[inside, 1].mean(), (y[inside] - 0.5).mean(), atol=0.2)


def test_known_shifts_have_known_errors(photos: Path, tmp_path: Path) -> None:
    write_predictions(photos, tmp_path / "perfect", np.zeros(2))
    write_predictions(photos, tmp_path / "shifted", np.array([3.0, 4.0]))
    (tmp_path / "shifted" / "aflw2000" / "face_c.npz").unlink()
    found = table(photos, str(tmp_path / "perfect"), str(tmp_path / "shifted"))
    names = ("0–30", "30–60", "over 60", "balanced", "plain")
    # 5 pixels of a box of 140 x 120 pixels.
    expected = 100 * 5 / np.sqrt(140 * 120)
    for kind in ("photo", "crop"):
        for name in names:
            assert found.cell("perfect", f"{kind} {name}").value == pytest.approx(0, abs=1e-4)
            missing = kind == "photo" and name in ("30–60", "balanced")
            value = found.cell("shifted", f"{kind} {name}").value
            if missing:
                assert value is None or np.isnan(value)
            else:
                assert value == pytest.approx(expected, rel=1e-4)
        assert found.cell("perfect", f"{kind} missed").value == 0
    assert found.cell("shifted", "photo missed").text(0) == "1 (of 4)"


def test_balanced_is_the_mean_of_bins_and_plain_that_of_faces(photos: Path, tmp_path: Path) -> None:
    write_predictions(photos, tmp_path / "program", np.zeros(2))
    far = tmp_path / "program" / "aflw2000" / "face_d.npz"
    with np.load(far) as stored:
        np.savez(far, landmarks68=stored["landmarks68"] + [12.0, 0])
    found = table(photos, str(tmp_path / "program"))
    error = 100 * 12 / np.sqrt(140 * 120)
    assert found.cell("program", "photo over 60").value == pytest.approx(error, rel=1e-4)
    assert found.cell("program", "photo balanced").value == pytest.approx(error / 3, rel=1e-4)
    assert found.cell("program", "photo plain").value == pytest.approx(error / 4, rel=1e-4)


def test_without_photos_only_crops_are_evaluated(arrays: Path, tmp_path: Path) -> None:
    write_predictions(arrays, tmp_path / "perfect", np.zeros(2))
    found = table(arrays, str(tmp_path / "perfect"), "3ddfa_v2")
    assert found.cell("perfect", "crop balanced").value == pytest.approx(0, abs=1e-4)
    assert found.cell("perfect", "photo balanced").value is None
    assert found.cell("3ddfa_v2", "crop missed").value is None


def test_a_system_finds_the_same_points_in_photo_and_crop(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth of this portrait is what the system itself finds in the whole photo."""
    monkeypatch.setenv("LIFEMASK_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(samples / "portrait_1.jpg", data / "portrait.jpg")
    with Image.open(data / "portrait.jpg") as image:
        pixels = np.array(image.convert("RGB"))
    seen = LandmarkSystem.from_pretrained().predict(pixels, crop=False, quality="fast")
    assert seen is not None
    assert seen.landmarks68 is not None
    points = seen.landmarks68.T + 0.5
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(data / "empty.jpg")
    for name in ("portrait", "empty"):
        savemat(data / f"{name}.mat", {"pt3d_68": points, "Pose_Para": np.zeros((1, 7))})
    found = table(data, "landmarks")
    assert found.cell("landmarks", "photo plain").value == pytest.approx(0, abs=1e-3)
    assert found.cell("landmarks", "photo missed").text(0) == "1 (of 2)"
    crop = read_aflw2000(data)[1]
    assert crop.key == "portrait"
    found = LandmarkSystem.from_pretrained().predict(crop.crop(), crop=True, quality="fast")
    assert found is not None
    assert found.landmarks68 is not None
    error = np.linalg.norm(crop.photo_points(found.landmarks68) - crop.landmarks68, axis=-1)
    assert error.mean() < 0.02 * np.ptp(crop.landmarks68, axis=0).max()


def test_errors_say_what_is_missing(photos: Path, arrays: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EvaluationError, match=r"neither photos with \.mat files"):
        read_aflw2000(tmp_path / "nothing")
    (photos / "face_b.mat").write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match="face_b"):
        read_aflw2000(photos)
    (arrays / "test.configs" / "AFLW2000-3D.pose.npy").unlink()
    with pytest.raises(EvaluationError, match=r"no AFLW2000-3D\.pose\.npy"):
        read_aflw2000(arrays)
