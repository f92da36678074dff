"""Each importer reads a small file in the format of its public loader, and refuses broken files."""

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from safetensors.numpy import save_file

from lifemask.morphable.importers import (
    ModelFileError,
    load_bfm,
    load_flame,
    load_gnm,
    load_ict,
    load_surrey,
)
from lifemask.morphable.importers.imported import cylindrical_uv

RNG = np.random.default_rng(5)
# A tetrahedron-like patch of four points, two triangles, counter-clockwise seen from +Z.
POINTS = np.array(
    [[0.03, 0.04, 0.05], [-0.03, 0.04, 0.05], [-0.03, -0.02, 0.07], [0.03, -0.02, 0.07]]
)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def landmark_vertices() -> list[int]:
    return [k % 4 for k in range(68)]


# ---------------------------------------------------------------------------------------- ICT


def write_obj(path: Path, points: np.ndarray) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in points]
    lines += ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    lines += ["f 1/1/1 2/2/2 3/3/3 4/4/4"]
    path.write_text("\n".join(lines) + "\n")


def write_ict_folder(folder: Path, identity: np.ndarray, expression: np.ndarray) -> None:
    folder.mkdir()
    config = {
        "expressions": ["jawOpen", "browDown_L"],
        "idx_to_landmark_verts": landmark_vertices(),
    }
    (folder / "vertex_indices.json").write_text(json.dumps(config))
    write_obj(folder / "generic_neutral_mesh.obj", POINTS * 100)
    for k, mode in enumerate(identity):
        write_obj(folder / f"identity{k:03d}.obj", (POINTS + mode) * 100)
    for name, mode in zip(config["expressions"], expression, strict=True):
        write_obj(folder / f"{name}.obj", (POINTS + mode) * 100)


@pytest.fixture
def ict_folder(tmp_path: Path) -> Path:
    modes = RNG.normal(size=(5, 4, 3)) * 1e-3
    write_ict_folder(tmp_path / "FaceXModel", modes[:3], modes[3:])
    return tmp_path / "FaceXModel"


def test_ict_folder_holds_centimetres_and_differences_to_the_neutral_mesh(tmp_path: Path) -> None:
    modes = RNG.normal(size=(5, 4, 3)) * 1e-3
    write_ict_folder(tmp_path / "FaceXModel", modes[:3], modes[3:])
    model = load_ict(tmp_path / "FaceXModel")
    assert model.expression_names == ("jawOpen", "browDown_L")
    np.testing.assert_allclose(model.identity_basis, modes[:3], atol=1e-8)
    np.testing.assert_allclose(model.expression_basis, modes[3:], atol=1e-8)
    np.testing.assert_array_equal(model.triangles, TRIANGLES)
    assert model.landmarks68 is not None
    points = model.landmarks68.points(model.mean, model.triangles)
    np.testing.assert_allclose(points, model.mean[landmark_vertices()])
    # OBJ counts v from the bottom, we from the top.
    np.testing.assert_allclose(model.uv[model.uv_triangles[0]], [[0, 1], [1, 1], [1, 0]])


def test_ict_folder_without_an_expression_names_the_file(ict_folder: Path) -> None:
    (ict_folder / "jawOpen.obj").unlink()
    with pytest.raises(FileNotFoundError, match=r"jawOpen\.obj"):
        load_ict(ict_folder)


def test_ict_mesh_of_another_size_is_refused(ict_folder: Path) -> None:
    write_obj(ict_folder / "identity001.obj", np.zeros((5, 3)))
    with pytest.raises(ModelFileError, match=r"identity001.obj: vertices has shape \(5, 3\)"):
        load_ict(ict_folder)


@pytest.fixture
def real_ict(shared_data: Path) -> Path:
    return shared_data / "models" / "ict_facekit_light.npz"


def test_real_ict_is_a_head_in_metres_with_its_origin_between_the_eyes(real_ict: Path) -> None:
    model = load_ict(real_ict)
    assert model.mean.shape == (26719, 3)
    assert model.identity_basis.shape == (100, 26719, 3)
    assert len(model.expression_names) == 53
    size = model.mean.max(0) - model.mean.min(0)
    assert np.all((size > 0.18) & (size < 0.40)), size
    assert model.landmarks68 is not None
    points = model.landmarks68.points(model.mean, model.triangles)
    # iBUG 36 is the subject's right: -X. The nose points out of the face, the chin is below.
    assert points[36, 0] < -0.03 < 0.03 < points[45, 0]
    assert points[30, 2] > 0.02
    assert points[8, 1] < -0.08
    left = model.mean[model.regions["eyeball_left"] > 0.5]
    right = model.mean[model.regions["eyeball_right"] > 0.5]
    assert abs(left[:, 0].mean() + right[:, 0].mean()) < 1e-4 < left[:, 0].mean()


def test_real_ict_triangles_face_outwards(real_ict: Path) -> None:
    model = load_ict(real_ict)
    skin = model.regions["face"] > 0.5
    triangles = model.triangles[skin[model.triangles].all(1)]
    a, b, c = (model.mean[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    nose = np.argmax(np.where(skin, model.mean[:, 2], -1))
    around = (triangles == nose).any(1)
    assert normal[around, 2].sum() > 0


# ---------------------------------------------------------------------------------------- GNM


def gnm_arrays() -> dict[str, np.ndarray]:
    corner_uv = np.array([[[0, 0], [1, 0], [1, 1]], [[1, 0], [2, 1], [1, 1]]], float)
    return {
        "version": np.array("3.0"),
        "template_vertex_positions": POINTS.astype(np.float32),
        "vertex_identity_basis": RNG.normal(size=(3, 4, 3)).astype(np.float32),
        "expression_basis": RNG.normal(size=(2, 4, 3)).astype(np.float32),
        "expression_names": np.array(["left_eye_region_0", "lower_face_region_0"]),
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "template_joint_positions": np.array(
            [[0, -0.1, 0], [0, 0, 0], [0.03, 0.02, 0.01], [-0.03, 0.02, 0.01]]
        ),
        "vertex_group_names": np.array(["skin", "left_eye", "right_eye"]),
        "vertex_groups": np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32),
        "triangles": TRIANGLES,
        "triangle_uvs": corner_uv,
        "mirror_indices": np.array([1, 0, 3, 2]),
    }


def test_gnm_is_centred_on_its_eye_joints(tmp_path: Path) -> None:
    arrays = gnm_arrays()
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    model = load_gnm(tmp_path / "gnm_head.npz")
    np.testing.assert_allclose(model.mean, POINTS - [0, 0.02, 0.01], atol=1e-7)
    np.testing.assert_array_equal(model.identity_basis, arrays["vertex_identity_basis"])
    assert model.expression_names == ("left_eye_region_0", "lower_face_region_0")
    np.testing.assert_array_equal(model.regions["eyeball_left"], [0, 0, 1, 0])
    assert model.mirror is not None
    np.testing.assert_array_equal(model.mirror, [1, 0, 3, 2])


def test_gnm_texture_tiles_lie_side_by_side_without_overlap(tmp_path: Path) -> None:
    np.savez(tmp_path / "gnm_head.npz", **gnm_arrays())
    model = load_gnm(tmp_path / "gnm_head.npz")
    first, second = (model.uv[corners] for corners in model.uv_triangles)
    assert first[:, 0].max() <= 0.5 <= second[:, 0].min()
    assert model.uv.min() >= 0
    assert model.uv.max() <= 1


def test_gnm_landmarks_are_put_into_ibug_order(tmp_path: Path) -> None:
    arrays = gnm_arrays()
    strip = np.array([[x, y, 0.0] for x in range(17) for y in (0, 1)]) * 0.01
    arrays["template_vertex_positions"] = strip.astype(np.float32)
    for key in ("vertex_identity_basis", "expression_basis"):
        arrays[key] = np.zeros((2, 34, 3), np.float32)
    arrays["vertex_groups"] = np.zeros((3, 34), np.float32)
    arrays["triangles"] = np.array([[2 * k, 2 * k + 2, 2 * k + 1] for k in range(16)])
    arrays["triangle_uvs"] = np.zeros((16, 3, 2))
    arrays["mirror_indices"] = np.arange(34)
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    jaw = [*range(16), 15]
    jaw[2:7] = jaw[2:7][::-1]
    rows = [(2 * k, 0.5, 2 * k + 2, 0.25, 2 * k + 1, 0.25) for k in [*jaw, *[0] * 51]]
    np.savetxt(tmp_path / "head_sparse_68.txt", rows)
    model = load_gnm(tmp_path / "gnm_head.npz", landmarks=tmp_path / "head_sparse_68.txt")
    assert model.landmarks68 is not None
    points = model.landmarks68.points(model.mean, model.triangles)
    assert np.all(np.diff(points[:16, 0]) > 0)


def test_gnm_without_a_field_names_it(tmp_path: Path) -> None:
    arrays = gnm_arrays()
    del arrays["expression_basis"]
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    with pytest.raises(ModelFileError, match=r"lacks \['expression_basis'\]"):
        load_gnm(tmp_path / "gnm_head.npz")


# ------------------------------------------------------------------------------------- Surrey


def eos_matrix(matrix: np.ndarray) -> bytes:
    rows, columns = matrix.shape
    return struct.pack("<ii", rows, columns) + matrix.astype("<f4").tobytes(order="F")


def eos_model(version: int = 1) -> tuple[bytes, np.ndarray, np.ndarray]:
    mean = (POINTS * 1e3).reshape(-1, 1)
    basis = np.linalg.qr(RNG.normal(size=(12, 2)))[0]
    variance = np.array([[4.0], [9.0]])
    triangles = struct.pack("<Q", 2) + TRIANGLES.astype("<i4").tobytes()
    shape = eos_matrix(mean) + eos_matrix(basis) + eos_matrix(variance) + triangles
    empty = eos_matrix(np.zeros((0, 0))) * 3 + struct.pack("<Q", 0)
    uv = struct.pack("<Q", 4) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]], "<f8").tobytes()
    return struct.pack("<I", version) + shape + empty + uv, basis, variance


def test_surrey_modes_are_unit_vectors_times_the_root_of_the_variance(tmp_path: Path) -> None:
    data, basis, variance = eos_model()
    (tmp_path / "sfm.bin").write_bytes(data)
    shape = RNG.normal(size=(12, 1))
    blend = struct.pack("<Q", 1) + struct.pack("<Q", 5) + b"smile" + eos_matrix(shape)
    (tmp_path / "blend.bin").write_bytes(blend)
    mapping = "\n".join(f"{k + 1} = {k % 4} # a point" for k in range(68))
    (tmp_path / "map.txt").write_text("# comment\n[landmark_mappings]\n" + mapping)
    model = load_surrey(
        tmp_path / "sfm.bin", blendshapes=tmp_path / "blend.bin", landmarks=tmp_path / "map.txt"
    )
    expected = (basis * np.sqrt(variance.T)).T.reshape(2, 4, 3) * 1e-3
    np.testing.assert_allclose(model.identity_basis, expected, rtol=1e-5)
    np.testing.assert_allclose(
        model.expression_basis, shape.reshape(1, 4, 3) * 1e-3, rtol=1e-5, atol=1e-9
    )
    assert model.expression_names == ("smile",)
    assert model.landmarks68 is not None
    np.testing.assert_allclose(model.mean - model.mean[0], POINTS - POINTS[0], atol=1e-7)


def test_surrey_file_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sfm.bin").write_bytes(eos_model()[0][:120])
    with pytest.raises(ModelFileError, match="incomplete"):
        load_surrey(tmp_path / "sfm.bin")


def test_surrey_file_of_unknown_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sfm.bin").write_bytes(eos_model(version=0)[0])
    with pytest.raises(ModelFileError, match="format version 0"):
        load_surrey(tmp_path / "sfm.bin")


# ---------------------------------------------------------------------------------------- BFM


def test_bfm2009_is_in_micrometres_and_wound_the_other_way(tmp_path: Path) -> None:
    basis = np.linalg.qr(RNG.normal(size=(12, 2)))[0]
    arrays = {
        "shapeMU": (POINTS * 1e6).reshape(-1, 1),
        "shapePC": basis,
        "shapeEV": np.array([[2e3], [1e3]]),
        "tl": TRIANGLES[:, [0, 2, 1]] + 1,
    }
    scipy.io.savemat(tmp_path / "01_MorphableModel.mat", arrays)
    model = load_bfm(tmp_path / "01_MorphableModel.mat", landmarks=np.array(landmark_vertices()))
    np.testing.assert_array_equal(model.triangles, TRIANGLES)
    expected = (basis * [2e-3, 1e-3]).T.reshape(2, 4, 3)
    np.testing.assert_allclose(model.identity_basis, expected, rtol=1e-5)
    np.testing.assert_allclose(model.mean - model.mean[0], POINTS - POINTS[0], atol=1e-9)


def write_statismo(path: Path) -> tuple[np.ndarray, np.ndarray]:
    h5py = pytest.importorskip("h5py", reason="reading .h5 models is an optional extra")
    shape = np.linalg.qr(RNG.normal(size=(12, 2)))[0]
    expression = np.linalg.qr(RNG.normal(size=(12, 1)))[0]
    corners = ("right.eye.corner_outer", "right.eye.corner_inner")
    corners = (*corners, "left.eye.corner_inner", "left.eye.corner_outer")
    named = [{"id": n, "coordinates": [k * 10.0 - 15, 5.0, 60.0]} for k, n in enumerate(corners)]
    with h5py.File(path, "w") as file:
        file["shape/model/mean"] = (POINTS * 1e3).reshape(-1)
        file["shape/model/pcaBasis"] = shape
        file["shape/model/pcaVariance"] = np.array([4.0, 1.0])
        file["shape/representer/cells"] = TRIANGLES.T
        file["expression/model/mean"] = np.zeros(12)
        file["expression/model/pcaBasis"] = expression
        file["expression/model/pcaVariance"] = np.array([9.0])
        file["metadata/landmarks/json"] = json.dumps(named)
    return shape, expression


def test_bfm2017_reads_identity_expression_and_the_eyes(tmp_path: Path) -> None:
    shape, expression = write_statismo(tmp_path / "model2017-1_face12_nomouth.h5")
    model = load_bfm(tmp_path / "model2017-1_face12_nomouth.h5")
    expected = (shape * [2e-3, 1e-3]).T.reshape(2, 4, 3)
    np.testing.assert_allclose(model.identity_basis, expected, rtol=1e-5)
    np.testing.assert_allclose(
        model.expression_basis, (expression * 3e-3).T.reshape(1, 4, 3), rtol=1e-5
    )
    # Eye corners at y = 5 mm, z = 60 mm: the origin lies 13 mm behind.
    np.testing.assert_allclose(POINTS - model.mean, np.tile([0, 0.005, 0.047], (4, 1)), atol=1e-9)


def test_bfm2017_without_expression_says_so(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="reading .h5 models is an optional extra")
    write_statismo(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        del file["expression"]
    with pytest.raises(ModelFileError, match="expression/model/mean"):
        load_bfm(tmp_path / "model.h5")


# -------------------------------------------------------------------------------------- FLAME


def flame_arrays() -> dict[str, np.ndarray]:
    weights = np.zeros((4, 5))
    weights[:, 1] = 1
    weights[2] = [0, 0, 1, 0, 0]
    weights[3] = [0, 0, 0, 1, 0]
    return {
        "v_template": POINTS,
        "shapedirs": RNG.normal(size=(4, 3, 400)) * 1e-3,
        "posedirs": np.zeros((4, 3, 36)),
        "J_regressor": np.eye(5, 4),
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": weights,
        "f": TRIANGLES,
    }


def test_flame_has_300_identity_modes_then_expression(tmp_path: Path) -> None:
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **arrays)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "f.safetensors")
    for name in ("flame.npz", "f.safetensors"):
        model = load_flame(tmp_path / name)
        assert model.identity_basis.shape == (300, 4, 3)
        np.testing.assert_allclose(model.identity_basis[7], arrays["shapedirs"][:, :, 7], rtol=1e-5)
        assert model.expression_names[:4] == ("jawOpen", "jawLeft", "jawRight", "expression_000")
        np.testing.assert_allclose(
            model.expression_basis[3], arrays["shapedirs"][:, :, 300], rtol=1e-5
        )


def test_flame_jaw_turns_about_its_joint(tmp_path: Path) -> None:
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **arrays)
    model = load_flame(tmp_path / "flame.npz")
    # Joint 2 sits on vertex 2, which alone hangs on the jaw: it turns on the spot.
    np.testing.assert_allclose(model.expression_basis[0], 0, atol=1e-9)
    arrays["J_regressor"][2] = [1, 0, 0, 0]
    np.savez(tmp_path / "flame.npz", **arrays)
    model = load_flame(tmp_path / "flame.npz")
    arm = POINTS[2] - POINTS[0]
    cosine, sine = np.cos(0.4), np.sin(0.4)
    turned = [arm[0], cosine * arm[1] - sine * arm[2], sine * arm[1] + cosine * arm[2]]
    np.testing.assert_allclose(model.expression_basis[0][2], turned - arm, atol=1e-8)
    assert np.abs(model.expression_basis[0][[0, 1, 3]]).max() < 1e-12


def chumpy_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """Return FLAME's fields as in the official pickle: chumpy wrappers and a sparse matrix."""
    import sys
    import types

    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    sys.modules.update({"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module})
    try:
        content = {k: v if k in ("f", "kintree_table") else Ch(v) for k, v in arrays.items()}
        content["J_regressor"] = scipy.sparse.csc_matrix(arrays["J_regressor"])
        return pickle.dumps(content, protocol=2)
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def test_flame_pickle_needs_an_explicit_yes_and_then_equals_the_plain_copy(tmp_path: Path) -> None:
    arrays = flame_arrays()
    (tmp_path / "generic_model.pkl").write_bytes(chumpy_pickle(arrays))
    np.savez(tmp_path / "flame.npz", **arrays)
    with pytest.raises(ModelFileError, match="allow_pickle=True"):
        load_flame(tmp_path / "generic_model.pkl")
    model = load_flame(tmp_path / "generic_model.pkl", allow_pickle=True)
    plain = load_flame(tmp_path / "flame.npz")
    np.testing.assert_array_equal(model.mean, plain.mean)
    np.testing.assert_array_equal(model.expression_basis, plain.expression_basis)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_flame_pickle_that_runs_code_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": _Bomb()}))
    with pytest.raises(ModelFileError, match=r"asks for (posix|nt)\.system"):
        load_flame(tmp_path / "evil.pkl", allow_pickle=True)
    assert not (tmp_path / "exploded").exists()


def test_flame_with_few_modes_is_refused(tmp_path: Path) -> None:
    arrays = flame_arrays()
    arrays["shapedirs"] = arrays["shapedirs"][:, :, :20]
    np.savez(tmp_path / "flame.npz", **arrays)
    with pytest.raises(ModelFileError, match="shapedirs has 20 modes"):
        load_flame(tmp_path / "flame.npz")


# ------------------------------------------------------------------------------- broken files

LOADERS = {
    "ict.npz": load_ict,
    "gnm_head.npz": load_gnm,
    "sfm.bin": load_surrey,
    "01_MorphableModel.mat": load_bfm,
    "model2019.h5": load_bfm,
    "flame.npz": load_flame,
}


@pytest.mark.parametrize("name", LOADERS)
def test_pointer_page_empty_and_missing_files_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match="get it from https://"):
        LOADERS[name](path)
    for content, message in (
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (b"PK\x03\x04 cut short", "."),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=message):
            LOADERS[name](path)


def test_triangles_that_name_missing_vertices_are_refused(tmp_path: Path) -> None:
    arrays = gnm_arrays()
    arrays["triangles"] = np.array([[0, 1, 9], [0, 2, 3]])
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    with pytest.raises(ModelFileError, match=r"outside 0\.\.3"):
        load_gnm(tmp_path / "gnm_head.npz")


def test_cylindrical_texture_never_stretches_a_triangle_across_the_seam() -> None:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.sin(angle), np.zeros(24), np.cos(angle)], axis=1)
    mean = np.concatenate([ring, ring + np.array([0, 1, 0])])
    k, n = np.arange(24), (np.arange(24) + 1) % 24
    triangles = np.concatenate(
        [np.stack([k, n, n + 24], axis=1), np.stack([k, n + 24, k + 24], axis=1)]
    )
    uv, uv_triangles = cylindrical_uv(mean, triangles)
    corner_u = uv[uv_triangles][..., 0]
    assert (corner_u.max(1) - corner_u.min(1)).max() < 0.1
    assert uv.min() >= 0
    assert uv.max() <= 1
