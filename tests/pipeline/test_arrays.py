"""The arrays of one face agree with each other."""

from pathlib import Path

import numpy as np
import pytest

from lifemask.pipeline import arrays as arrays_module
from lifemask.pipeline.reconstruction import FaceReconstruction

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(face: FaceReconstruction) -> Arrays:
    return face.arrays()


def points_from_depth(face: FaceReconstruction, depth: np.ndarray) -> np.ndarray:
    """Return the point in camera axes, metres, at each pixel centre."""
    rows, columns = np.indices(depth.shape) + 0.5
    x0, y0 = face.camera.principal_point.tolist()
    focal = float(face.camera.focal_pixels)
    return np.stack([(columns - x0) * depth / focal, (rows - y0) * depth / focal, depth], -1)


def test_head_and_camera_axes_differ_by_the_pose(face: FaceReconstruction, arrays: Arrays) -> None:
    pose = face.camera.world_to_camera.numpy()
    moved = arrays["vertices_head"] @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(arrays["vertices_camera"], moved, atol=1e-6)


def test_vertices_lie_on_the_depth_or_behind_it(face: FaceReconstruction, arrays: Arrays) -> None:
    """Vertices of the front of the face are compared at their pixel; some lie behind lips and lids."""
    chosen = arrays["face_vertices"] & (arrays["vertices_head"][:, 2] > 0.02)
    vertices = arrays["vertices_camera"][chosen]
    x, y, _ = face.camera.project_from_camera(face.camera.to_camera(face.mesh.vertices)[chosen]).T
    behind = vertices[:, 2] - arrays["depth"][y.long().numpy(), x.long().numpy()]
    assert np.median(np.abs(behind)) < 0.0005
    # At the contours of nose and lips a pixel's centre may show the surface behind them.
    assert np.quantile(behind, 0.05) > -0.0015


def test_normals_are_those_of_the_depth(face: FaceReconstruction, arrays: Arrays) -> None:
    points = points_from_depth(face, arrays["depth"].astype(float))
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    # +x right, +y down, +z forward: right x down points away from the camera.
    normals = -np.cross(across, down) * [1, -1, -1]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
    mask = arrays["mask"]
    inside = mask[1:-1, 1:-1] & mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2]
    cosine = (normals * arrays["normals"][1:-1, 1:-1]).sum(-1)[inside]
    assert np.degrees(np.arccos(np.median(cosine))) < 3


def test_maps_are_empty_outside_the_head(arrays: Arrays) -> None:
    outside = ~arrays["mask"]
    for name in ("normals", "depth", "albedo", "shading"):
        assert not arrays[name][outside].any()
    lengths = np.linalg.norm(arrays["normals"], axis=-1)
    np.testing.assert_allclose(lengths[arrays["mask"]], 1, atol=1e-4)


def test_light_times_albedo_is_the_drawn_head(face: FaceReconstruction, arrays: Arrays) -> None:
    drawn = face.render().colour.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(arrays["albedo"] * arrays["shading"], drawn, atol=1e-5)


def test_landmarks_in_the_image_and_in_space_are_the_same(
    face: FaceReconstruction, arrays: Arrays
) -> None:
    x0, y0 = face.camera.principal_point.tolist()
    focal = float(face.camera.focal_pixels)
    for name in ("landmarks68", "landmarks68_outline"):
        x, y, z = arrays[f"{name}_camera"].T.astype(float)
        seen = np.stack([focal * x / z + x0, focal * y / z + y0], -1)
        np.testing.assert_allclose(arrays[name], seen, atol=0.01)


def test_colours_of_vertices_are_those_of_the_pixels_they_fall_on(
    face: FaceReconstruction, arrays: Arrays
) -> None:
    x, y, depth = face.camera.project(face.mesh.vertices).T
    height, width = arrays["depth"].shape
    column, row = x.long().clamp(0, width - 1).numpy(), y.long().clamp(0, height - 1).numpy()
    seen = arrays["depth"][row, column]
    front = arrays["face_vertices"] & (np.abs(depth.numpy() - seen) < 5e-4)
    difference = arrays["vertices_albedo"][front] - arrays["albedo"][row, column][front]
    assert front.sum() > 1000
    assert np.median(np.abs(difference)) < 0.01


def test_files_hold_the_same_arrays_drawn_in_strips(
    face: FaceReconstruction, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "_PIXELS_AT_ONCE", 100 * face.camera.image_size[1])
    face.save_arrays(tmp_path / "face.npz")
    with np.load(tmp_path / "face.npz", allow_pickle=False) as stored:
        assert set(stored) == set(arrays)
        for name, values in arrays.items():
            assert stored[name].dtype == values.dtype
            assert stored[name].shape == values.shape
            # A strip's camera differs in the last bit, so edges may move by a pixel.
            agree = np.isclose(stored[name], values, atol=1e-3)
            assert agree.mean() > 0.9999
