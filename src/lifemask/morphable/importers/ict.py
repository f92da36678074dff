"""ICT-FaceKit Light (USC ICT, MIT licence): the release folder of OBJ files, or one .npz of it.

The reader follows `Scripts/face_model_io.py` of github.com/ICT-VGL/ICT-FaceKit:
`vertex_indices.json` names the expressions; each OBJ is a whole mesh in centimetres, and its
difference from `generic_neutral_mesh.obj` is one mode; identity modes are already scaled to one
standard deviation. The .npz holds the same in millimetres: `vertices_mean`, `identity`, `expression`,
`expression_names`, `triangles`, `uv`, `uv_triangles`, `landmarks68`.
"""

from pathlib import Path

import numpy as np

from lifemask.morphable.importers.imported import (
    Array,
    ImportedModel,
    ModelFileError,
    checked_path,
    embed_vertices,
    head_origin,
    open_arrays,
    read_json,
    require,
    require_shape,
    require_triangles,
)

_WHERE = "https://github.com/ICT-VGL/ICT-FaceKit (folder FaceXModel)"

# Vertex ranges of the mesh, from the table in the repository's README.
VERTEX_RANGES: dict[str, tuple[int, int]] = {
    "face": (0, 9409),
    "head_and_neck": (9409, 11248),
    "mouth_bag": (11248, 13294),
    "eye_socket_left": (13294, 13678),
    "eye_socket_right": (13678, 14062),
    "gums_and_tongue": (14062, 17039),
    "teeth": (17039, 21451),
    "eyeball_left": (21451, 23021),
    "eyeball_right": (23021, 24591),
}
VERTEX_COUNT = 26719
NARROW_FACE = 6706
"""Number of vertices of the face without ears and neck, which come first."""


def load_ict(path: str | Path) -> ImportedModel:
    """Read ICT-FaceKit Light from its release folder or from a repacked .npz.

    Args:
        path: the folder `FaceXModel`, or the .npz file.

    Raises:
        FileNotFoundError: the path, or one of the folder's OBJ files, does not exist.
        ModelFileError: a file is damaged, a pointer, or of unexpected shape.
    """
    path = checked_path(path, what="ICT-FaceKit Light", where=_WHERE)
    arrays = _read_folder(path) if path.is_dir() else _read_npz(path)
    mean = arrays["vertices_mean"].astype(np.float64)
    vertices = len(mean)
    triangles = require_triangles(arrays["triangles"], vertices, file=path.name)
    landmarks = embed_vertices(arrays["landmarks68"], triangles)
    regions: dict[str, Array] = {}
    eyes = None
    if vertices == VERTEX_COUNT:
        regions = {name: _range_mask(vertices, *span) for name, span in VERTEX_RANGES.items()}
        regions["skin"] = np.maximum(regions["face"], regions["head_and_neck"])
        sides = [VERTEX_RANGES["eyeball_left"], VERTEX_RANGES["eyeball_right"]]
        eyes = np.stack([_sphere_centre(mean[start:stop]) for start, stop in sides])
        if eyes[0, 0] < eyes[1, 0]:
            regions["eyeball_left"], regions["eyeball_right"] = (
                regions["eyeball_right"],
                regions["eyeball_left"],
            )
    origin, note = head_origin(
        mean, eyeball_centres=eyes, landmarks68=landmarks.points(mean, triangles)
    )
    return ImportedModel(
        name="ICT-FaceKit Light",
        mean=mean - origin,
        identity_basis=arrays["identity"],
        expression_basis=arrays["expression"],
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        triangles=triangles,
        uv=arrays["uv"],
        uv_triangles=arrays["uv_triangles"].astype(np.int64),
        landmarks68=landmarks,
        regions=regions,
        notes=() if note is None else (note,),
    )


def _range_mask(count: int, start: int, stop: int) -> Array:
    mask = np.zeros(count)
    mask[start:stop] = 1
    return mask


def _sphere_centre(points: Array) -> Array:
    # |p|² = 2 c·p + (r² - |c|²) is linear in the centre c.
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    return np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]


def _read_npz(path: Path) -> dict[str, Array]:
    arrays = open_arrays(path, what="a repacked ICT-FaceKit Light")
    keys = ("vertices_mean", "identity", "expression", "expression_names", "triangles", "uv")
    require(arrays, (*keys, "uv_triangles", "landmarks68"), file=path.name)
    count = len(arrays["vertices_mean"])
    for key in ("identity", "expression"):
        require_shape(arrays[key], (None, count, 3), name=key, file=path.name)
    names = len(arrays["expression_names"])
    require_shape(arrays["expression"], (names, count, 3), name="expression", file=path.name)
    millimetres = ("vertices_mean", "identity", "expression")
    result = dict(arrays)
    result.update({key: arrays[key].astype(np.float32) * np.float32(1e-3) for key in millimetres})
    # The file stores v upwards, as the OBJ files do.
    result["uv"] = _flipped(arrays["uv"])
    return result


def _read_folder(folder: Path) -> dict[str, Array]:
    config_path = checked_path(
        folder / "vertex_indices.json", what="ICT's list of expressions", where=_WHERE
    )
    config = read_json(config_path)
    require(config, ("expressions", "idx_to_landmark_verts"), file=config_path.name)
    neutral = checked_path(
        folder / "generic_neutral_mesh.obj", what="ICT's neutral mesh", where=_WHERE
    )
    mean, uv, triangles, uv_triangles = _read_mesh(neutral)

    def mode(name: str) -> Array:
        file = checked_path(folder / f"{name}.obj", what="an ICT morph target", where=_WHERE)
        vertices = _read_vertices(file)
        require_shape(vertices, mean.shape, name="vertices", file=file.name)
        return ((vertices - mean) * 0.01).astype(np.float32)

    identities: list[Array] = []
    while (folder / f"identity{len(identities):03d}.obj").exists():
        identities.append(mode(f"identity{len(identities):03d}"))
    if not identities:
        raise ModelFileError(
            f"{folder.name} holds no identity000.obj. The folder must be the whole FaceXModel."
        )
    names = [str(name) for name in config["expressions"]]
    return {
        "vertices_mean": mean * 0.01,
        "identity": np.stack(identities),
        "expression": np.stack([mode(name) for name in names]),
        "expression_names": np.array(names),
        "triangles": triangles,
        "uv": _flipped(uv),
        "uv_triangles": uv_triangles,
        "landmarks68": np.asarray(config["idx_to_landmark_verts"]),
    }


def _flipped(uv: Array) -> Array:
    return np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)


def _read_vertices(path: Path) -> Array:
    with path.open(encoding="utf-8") as file:
        rows = [line.split()[1:4] for line in file if line.startswith("v ")]
    try:
        return np.array(rows, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise ModelFileError(f"{path.name}: a vertex line is damaged ({error}).") from error


def _read_mesh(path: Path) -> tuple[Array, Array, Array, Array]:
    """Return vertices, texture coordinates, triangles and texture triangles of an OBJ file."""
    uv: list[list[float]] = []
    triangles: list[list[int]] = []
    uv_triangles: list[list[int]] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("vt "):
                uv.append([float(x) for x in line.split()[1:3]])
            elif line.startswith("f "):
                corners = [corner.split("/") for corner in line.split()[1:]]
                if any(len(corner) < 2 or not corner[1] for corner in corners):
                    raise ModelFileError(f"{path.name}: a polygon has no texture coordinates.")
                index = [int(corner[0]) - 1 for corner in corners]
                texture = [int(corner[1]) - 1 for corner in corners]
                for k in range(1, len(corners) - 1):
                    triangles.append([index[0], index[k], index[k + 1]])
                    uv_triangles.append([texture[0], texture[k], texture[k + 1]])
    return (
        _read_vertices(path),
        np.array(uv).reshape(-1, 2),
        np.array(triangles).reshape(-1, 3),
        np.array(uv_triangles).reshape(-1, 3),
    )
