"""Basel Face Models 2009 (.mat), 2017 and 2019 (.h5): for research, after registration.

The reader follows `share/scripts/convert-bfm2009-to-eos.py` and `convert-bfm2017-to-eos.py` of
github.com/patrikhuber/eos. 2009: `shapeMU`, `shapePC` with unit columns, `shapeEV` standard
deviations, micrometres; triangles `tl` count from one and are clockwise. 2017 and 2019
(Statismo HDF5): `GROUP/model/{mean,pcaBasis,pcaVariance}` for shape and expression, millimetres;
triangles `shape/representer/cells` (3, T), named points in `metadata/landmarks/json`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lifemask.morphable.importers.imported import (
    Array,
    ImportedModel,
    ModelFileError,
    checked_path,
    cylindrical_uv,
    embed_vertices,
    head_origin,
    require,
    require_shape,
    require_triangles,
)

_WHERE = "https://faces.dmi.unibas.ch/bfm (registration)"
_UV_NOTE = "Texture coordinates are a cylindrical projection: the file contains none."
_COLOUR_NOTE = "The colour model is left out: it is stored per vertex, not as a texture."
_EYE_CORNERS = (
    "right.eye.corner_outer",
    "right.eye.corner_inner",
    "left.eye.corner_inner",
    "left.eye.corner_outer",
)


def load_bfm(path: str | Path, *, landmarks: Array | None = None) -> ImportedModel:
    """Read a Basel Face Model; the file's suffix decides which one.

    Args:
        path: `01_MorphableModel.mat`, `model2017-1_*.h5` or `model2019_*.h5`.
        landmarks: vertex indices of the 68 iBUG points, for instance from eos's
            `ibug_to_bfm2009.txt`; the model files contain none.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelFileError: the file is damaged, a pointer, or of another kind.
        ImportError: the file is an .h5 file and h5py is not installed.
    """
    path = checked_path(path, what="a Basel Face Model", where=_WHERE)
    if path.suffix == ".mat":
        return _load_2009(path, landmarks)
    if path.suffix in (".h5", ".hdf5"):
        return _load_statismo(path, landmarks)
    raise ModelFileError(
        f"Cannot read {path.name!r}. Known Basel Face Models: 01_MorphableModel.mat (2009), "
        "model2017-1_*.h5, model2019_*.h5."
    )


def _load_2009(path: Path, landmarks: Array | None) -> ImportedModel:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        # Scipy does not close a damaged file, so it is opened here.
        with path.open("rb") as stream:
            arrays: dict[str, Any] = loadmat(stream)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ModelFileError(f"{path.name} is not a readable .mat file: {error}.") from error
    require(arrays, ("shapeMU", "shapePC", "shapeEV", "tl"), file=path.name)
    mean = np.asarray(arrays["shapeMU"], dtype=np.float64).reshape(-1)
    basis = np.asarray(arrays["shapePC"], dtype=np.float32)
    deviation = np.asarray(arrays["shapeEV"], dtype=np.float32).reshape(-1)
    require_shape(basis, (len(mean), len(deviation)), name="shapePC", file=path.name)
    triangles = np.asarray(arrays["tl"]).astype(np.int64)[:, [0, 2, 1]] - 1
    metres = 1e-6
    return _assemble(
        name="Basel Face Model 2009",
        mean=mean.reshape(-1, 3) * metres,
        identity=_modes(basis * deviation, metres),
        expression=np.zeros((0, len(mean) // 3, 3), np.float32),
        triangles=triangles,
        landmarks=landmarks,
        named_points={},
        notes=(_UV_NOTE, _COLOUR_NOTE, "The model of 2009 has no expressions."),
        file=path.name,
    )


def _load_statismo(path: Path, landmarks: Array | None) -> ImportedModel:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "Basel Face Models of 2017 and 2019 are HDF5 files: `pip install h5py` to read them."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visit(names.append)
            wanted = [
                f"{group}/model/{part}"
                for group in ("shape", "expression")
                for part in ("mean", "pcaBasis", "pcaVariance")
            ]
            require(dict.fromkeys(names), [*wanted, "shape/representer/cells"], file=path.name)
            arrays: dict[str, Array] = {key: np.asarray(file[key]) for key in wanted}
            cells = np.asarray(file["shape/representer/cells"])
            raw: Any = None
            if "metadata/landmarks/json" in names:
                raw = file["metadata/landmarks/json"][()]  # pyright: ignore[reportIndexIssue] — stub
    except OSError as error:
        raise ModelFileError(f"{path.name} is not a readable HDF5 file: {error}.") from error
    size = arrays["shape/model/mean"].size
    for group in ("shape", "expression"):
        variances = arrays[f"{group}/model/pcaVariance"].size
        basis = arrays[f"{group}/model/pcaBasis"]
        require_shape(basis, (size, variances), name=f"{group}/model/pcaBasis", file=path.name)
    metres = 1e-3
    mean = arrays["shape/model/mean"] + arrays["expression/model/mean"]
    triangles = cells.T if cells.shape[0] == 3 and cells.shape[1] != 3 else cells

    def scaled(group: str) -> Array:
        deviation = np.sqrt(arrays[f"{group}/model/pcaVariance"].reshape(-1))
        basis = arrays[f"{group}/model/pcaBasis"].astype(np.float32)
        return _modes(basis * deviation.astype(np.float32), metres)

    return _assemble(
        name=f"Basel Face Model ({path.stem})",
        mean=mean.reshape(-1, 3).astype(np.float64) * metres,
        identity=scaled("shape"),
        expression=scaled("expression"),
        triangles=triangles,
        landmarks=landmarks,
        named_points=_named_points(raw, path.name),
        notes=(
            _UV_NOTE,
            _COLOUR_NOTE,
            "Expression modes are standard deviations of a PCA, not weights from 0 to 1.",
        ),
        file=path.name,
    )


def _modes(columns: Array, metres: float) -> Array:
    return np.ascontiguousarray(columns.T).reshape(columns.shape[1], -1, 3) * np.float32(metres)


def _named_points(raw: Any, file: str) -> dict[str, Array]:
    """Return points in millimetres by name from [{"id": ..., "coordinates": [x, y, z]}, ...]."""
    if raw is None:
        return {}
    text = raw if isinstance(raw, bytes | str) else np.asarray(raw).tobytes()
    try:
        entries = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{file}: metadata/landmarks/json is damaged: {error}.") from error
    return {entry["id"]: np.asarray(entry["coordinates"], dtype=np.float64) for entry in entries}


def _assemble(
    *,
    name: str,
    mean: Array,
    identity: Array,
    expression: Array,
    triangles: Array,
    landmarks: Array | None,
    named_points: dict[str, Array],
    notes: tuple[str, ...],
    file: str,
) -> ImportedModel:
    triangles = require_triangles(triangles, len(mean), file=file)
    uv, uv_triangles = cylindrical_uv(mean, triangles)
    embedding, points = None, None
    if landmarks is not None:
        require_shape(landmarks, (68,), name="landmarks", file="The argument")
        embedding = embed_vertices(landmarks, triangles)
        points = embedding.points(mean, triangles)
    elif all(corner in named_points for corner in _EYE_CORNERS):
        points = np.zeros((68, 3))
        points[[36, 39, 42, 45]] = [named_points[corner] * 1e-3 for corner in _EYE_CORNERS]
    origin, note = head_origin(mean, landmarks68=points)
    return ImportedModel(
        name=name,
        mean=mean - origin,
        identity_basis=identity,
        expression_basis=expression,
        expression_names=tuple(f"expression_{k:03d}" for k in range(len(expression))),
        triangles=triangles,
        uv=uv,
        uv_triangles=uv_triangles,
        landmarks68=embedding,
        notes=notes if note is None else (*notes, note),
    )
