"""FLAME 2020 and 2023 (Max Planck; 2023 Open is CC BY 4.0): the official pickle, or a safe copy.

The reader follows `smplx/body_models.py` (class FLAME) and `smplx/lbs.py` of
github.com/vchoutas/smplx: `v_template`, `shapedirs` (first 300 modes identity, next 100
expression), `posedirs` (for the entries of rotation minus identity), `J_regressor`,
`kintree_table`, `weights`, `f`; joints root, neck, jaw, left eye, right eye; metres, +Y up, +Z out
of the face. A safe copy holds the same names as plain arrays in .npz or .safetensors.

A pickle can run any code when it is opened, so it is read only on request. The unpickler then
accepts only numpy arrays, scipy's sparse matrices and chumpy's array wrapper.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable.importers.imported import (
    Array,
    ImportedModel,
    ModelFileError,
    PointEmbedding,
    checked_path,
    cylindrical_uv,
    head_origin,
    open_arrays,
    require,
    require_shape,
    require_triangles,
)

_WHERE = "https://flame.is.tue.mpg.de (registration)"
_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
_IDENTITY_MODES = 300
_JAW, _EYE_LEFT, _EYE_RIGHT = 2, 3, 4

# Rotation vectors of the jaw (radians) that become expression modes with ARKit's names.
_JAW_MODES = {
    "jawOpen": (0.40, 0.0, 0.0),
    "jawLeft": (0.0, 0.10, 0.0),
    "jawRight": (0.0, -0.10, 0.0),
}


def load_flame(
    path: str | Path, *, allow_pickle: bool = False, landmarks: str | Path | None = None
) -> ImportedModel:
    """Read FLAME.

    The jaw becomes three linear modes, `jawOpen` (0.40 rad), `jawLeft` and `jawRight` (0.10 rad),
    pose correctives included. At half weight their error is at most a few tenths of a millimetre.
    The expression modes are standard deviations, not weights from 0 to 1.

    Args:
        path: `generic_model.pkl`, `flame2023.pkl`, or the same arrays as .npz or .safetensors.
        allow_pickle: read the official pickle. Allow it only for a file from the official site.
        landmarks: `flame_static_embedding_68*.npz` with `lmk_face_idx` and `lmk_b_coords`.

    Raises:
        FileNotFoundError: a file does not exist.
        ModelFileError: the file is a pickle without `allow_pickle`, a pickle with other contents
            than arrays, damaged, a pointer, or has unexpected shapes.
    """
    path = checked_path(path, what="FLAME (generic_model.pkl, flame2023.pkl)", where=_WHERE)
    arrays = _checked_arrays(_read_arrays(path, allow_pickle=allow_pickle), file=path.name)
    mean = arrays["v_template"].astype(np.float64)
    triangles = require_triangles(arrays["f"], len(mean), file=path.name)
    modes = np.moveaxis(arrays["shapedirs"].astype(np.float32), 2, 0)
    expression = modes[_IDENTITY_MODES:]
    joint_positions = arrays["J_regressor"] @ mean
    jaw_weight = arrays["weights"][:, _JAW]
    jaw = [
        _jaw_offsets(mean, joint_positions[_JAW], jaw_weight, arrays["posedirs"], rotation_vector)
        for rotation_vector in _JAW_MODES.values()
    ]
    names = tuple(f"expression_{k:03d}" for k in range(len(expression)))
    origin, _ = head_origin(mean, eyeball_centres=joint_positions[[_EYE_LEFT, _EYE_RIGHT]])
    uv, uv_triangles = cylindrical_uv(mean, triangles)
    return ImportedModel(
        name=f"FLAME ({path.stem})",
        mean=mean - origin,
        identity_basis=modes[:_IDENTITY_MODES],
        expression_basis=np.concatenate([np.stack(jaw).astype(np.float32), expression]),
        expression_names=(*_JAW_MODES, *names),
        triangles=triangles,
        uv=uv,
        uv_triangles=uv_triangles,
        landmarks68=None if landmarks is None else _read_landmarks(landmarks, len(triangles)),
        regions={
            "eyeball_left": arrays["weights"][:, _EYE_LEFT].astype(np.float64),
            "eyeball_right": arrays["weights"][:, _EYE_RIGHT].astype(np.float64),
        },
        notes=(
            "The neck joint is left out: the head moves as one with the camera's pose.",
            "The jaw's rotation is linear in its weight.",
            "Texture coordinates are a cylindrical projection: the file contains none.",
        ),
    )


def _read_arrays(path: Path, *, allow_pickle: bool) -> dict[str, Any]:
    if path.suffix in (".npz", ".safetensors"):
        return open_arrays(path, what="FLAME's arrays")
    if not allow_pickle:
        raise ModelFileError(
            f"{path.name} is a pickle, which can run code when opened. If it comes from "
            f"{_WHERE}, pass allow_pickle=True; or convert it to .npz with the same names."
        )
    return _read_pickle(path)


def _checked_arrays(stored: dict[str, Any], *, file: str) -> dict[str, Array]:
    """Return the needed arrays as plain numpy; their shapes are those of FLAME 2020 and 2023."""
    require(stored, _KEYS, file=file)
    arrays = {key: np.asarray(_dense(stored[key])) for key in _KEYS}
    vertices, joints = len(arrays["v_template"]), arrays["J_regressor"].shape[0]
    shapes = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, None),
        "J_regressor": (5, vertices),
        "weights": (vertices, joints),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
    }
    for name, shape in shapes.items():
        require_shape(arrays[name], shape, name=name, file=file)
    shape_modes = arrays["shapedirs"].shape[-1]
    if shape_modes <= _IDENTITY_MODES:
        raise ModelFileError(
            f"{file}: shapedirs has {shape_modes} modes; FLAME 2020 and 2023 have 400, 300 "
            "for identity and 100 for expression."
        )
    return arrays


def _jaw_offsets(
    mean: Array, joint: Array, weight: Array, posedirs: Array, vector: tuple[float, float, float]
) -> Array:
    """Return vertex offsets for a rotation vector of the jaw: correctives, then skinning."""
    turn = matrix_from_rotation_vector(torch.tensor(vector, dtype=torch.float64)).numpy()
    feature = np.zeros(posedirs.shape[-1])
    # The entries of (R - I) follow joint by joint from joint 1; the jaw has the second nine.
    feature[9 * (_JAW - 1) : 9 * _JAW] = (turn - np.eye(3)).reshape(-1)
    corrected = mean + posedirs @ feature
    turned = (corrected - joint) @ turn.T + joint
    return corrected + weight[:, None] * (turned - corrected) - mean


def _read_landmarks(path: str | Path, triangle_count: int) -> PointEmbedding:
    path = checked_path(path, what="FLAME's 68-point embedding as .npz", where=_WHERE)
    arrays = open_arrays(path, what="FLAME's landmark embedding")
    require(arrays, ("lmk_face_idx", "lmk_b_coords"), file=path.name)
    index = arrays["lmk_face_idx"].reshape(-1).astype(np.int64)
    if len(index) != 68 or index.max() >= triangle_count:
        raise ModelFileError(
            f"{path.name} has {len(index)} points; expected 68 on {triangle_count} triangles. The "
            "51-point embedding has no jaw: use the one of 68."
        )
    barycentric = require_shape(
        arrays["lmk_b_coords"], (68, 3), name="lmk_b_coords", file=path.name
    )
    return PointEmbedding(index, barycentric.astype(np.float64))


def _dense(array: Any) -> Any:
    if isinstance(array, _Chumpy):
        return array.value()
    return array.toarray() if hasattr(array, "toarray") else array


class _Chumpy:
    """Replaces chumpy's classes in a pickle: keeps their fields and computes nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def value(self) -> Array:
        if "x" in self.state:
            return np.asarray(_dense(self.state["x"]))
        if {"a", "idxs", "preferred_shape"} <= set(self.state):
            flat = np.asarray(_dense(self.state["a"])).reshape(-1)
            return flat[np.asarray(self.state["idxs"])].reshape(self.state["preferred_shape"])
        raise ModelFileError(
            f"A chumpy object with fields {sorted(self.state)} cannot be read without chumpy. "
            "Convert the file to .npz where chumpy is installed."
        )


class _ArrayUnpickler(pickle.Unpickler):
    """Builds only arrays; it refuses any other class in the file before its code can run."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        root = module_name.split(".")[0]
        if root == "numpy" and global_name in ("ndarray", "dtype"):
            return getattr(np, global_name)
        if module_name in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if global_name == "_reconstruct":
                return _reconstruct_array
            if global_name == "scalar":
                return _reconstruct_scalar
        if root == "scipy" and global_name in ("csc_matrix", "csr_matrix", "coo_matrix"):
            import scipy.sparse

            return getattr(scipy.sparse, global_name)
        if root == "chumpy" and global_name in ("Ch", "Select"):
            return _Chumpy
        if (module_name, global_name) == ("_codecs", "encode"):
            return _encode
        if (module_name, global_name) in (
            ("copy_reg", "_reconstructor"),
            ("copyreg", "_reconstructor"),
        ):
            return _reconstruct_plain
        if (module_name, global_name) in (("__builtin__", "object"), ("builtins", "object")):
            return object
        raise ModelFileError(
            f"The pickle asks for {module_name}.{global_name}, which a FLAME model does not need. "
            "The file was not opened."
        )


def _reconstruct_array(kind: type, shape: tuple[int, ...], code: bytes | str) -> Array:
    # As in numpy's own function; __setstate__ fills the array and only copies bytes.
    if kind is not np.ndarray:
        raise ModelFileError(f"The pickle rebuilds a {kind.__name__} as an array.")
    return np.ndarray(shape, np.dtype(code.decode() if isinstance(code, bytes) else code))


def _reconstruct_scalar(dtype: np.dtype[Any], data: bytes | str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ModelFileError(f"The pickle asks for the text encoding {encoding!r}.")
    return text.encode("latin1")


def _reconstruct_plain(kind: Any, base: Any, state: Any) -> Any:
    if kind is not _Chumpy or base is not object or state is not None:
        raise ModelFileError("The pickle rebuilds an object that a FLAME model does not need.")
    return _Chumpy()


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except ModelFileError:
        raise
    except Exception as error:
        # Damaged pickles raise errors of any type.
        raise ModelFileError(f"{path.name} is a damaged pickle: {error!r}.") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path.name} holds a {type(content).__name__}, not FLAME's fields.")
    return {str(key): value for key, value in content.items()}
