"""GNM Head v3 (Google, Apache-2.0): `gnm_head.npz` of github.com/google/GNM or its weights page.

The reader follows the official loader: field names and shapes of `gnm/shape/gnm_data_loader.py` and
`gnm/shape/gnm_xnp.py`, evaluation of `gnm/shape/gnm_common.py` (template + identity + expression,
metres, +X to the subject's left, +Y up, +Z forward), and the landmark text format of
`gnm/shape/data/landmarks/head_sparse_68.txt` (rows of vertex and weight, three times).
"""

from pathlib import Path

import numpy as np

from lifemask.morphable.importers.imported import (
    Array,
    ImportedModel,
    ModelFileError,
    PointEmbedding,
    checked_path,
    corner_uv_to_shared,
    head_origin,
    open_arrays,
    require,
    require_shape,
    require_triangles,
)

_WHERE = "https://github.com/google/GNM (gnm/shape/data/versions/v3_0/gnm_head.npz)"

# Our region names and the vertex groups that make them up.
_GROUPS: dict[str, tuple[str, ...]] = {
    "skin": ("skin",),
    "ears": ("ears",),
    "mouth_bag": ("mouth_sock",),
    "tongue": ("tongue",),
    "teeth": ("upper_teeth_and_gums", "lower_teeth_and_gums"),
    "eyeball_left": ("left_eye",),
    "eyeball_right": ("right_eye",),
    "lips": ("upper_lip", "lower_lip"),
}


def load_gnm(path: str | Path, *, landmarks: str | Path | None = None) -> ImportedModel:
    """Read GNM Head.

    Expression modes are standard deviations of region-wise PCA, not weights from 0 to 1.

    Args:
        path: `gnm_head.npz`.
        landmarks: `head_sparse_68.txt` of the same repository, if available.

    Raises:
        FileNotFoundError: a file does not exist.
        ModelFileError: a file is damaged, a pointer, or of unexpected shape.
    """
    path = checked_path(path, what="GNM Head (gnm_head.npz)", where=_WHERE)
    arrays = open_arrays(path, what="GNM Head")
    keys = ("template_vertex_positions", "vertex_identity_basis", "expression_basis")
    names = ("expression_names", "joint_names", "vertex_group_names", "vertex_groups")
    more = ("triangles", "triangle_uvs", "mirror_indices", "template_joint_positions")
    require(arrays, (*keys, *names, *more), file=path.name)
    mean = arrays["template_vertex_positions"].astype(np.float64)
    vertices = len(mean)
    require_shape(mean, (vertices, 3), name=keys[0], file=path.name)
    for key in keys[1:]:
        require_shape(arrays[key], (None, vertices, 3), name=key, file=path.name)
    expressions = tuple(str(name) for name in arrays["expression_names"])
    require_shape(
        arrays["expression_basis"], (len(expressions), vertices, 3), name=keys[2], file=path.name
    )
    triangles = require_triangles(arrays["triangles"], vertices, file=path.name)
    corner_uv = require_shape(
        arrays["triangle_uvs"], (len(triangles), 3, 2), name="triangle_uvs", file=path.name
    )
    uv, uv_triangles = corner_uv_to_shared(_one_square(corner_uv.astype(np.float64)))
    groups = dict(
        zip(
            (str(name) for name in arrays["vertex_group_names"]),
            arrays["vertex_groups"],
            strict=True,
        )
    )
    joints = [str(name) for name in arrays["joint_names"]]
    eyes = None
    if {"left_eye", "right_eye"} <= set(joints):
        eyes = arrays["template_joint_positions"][
            [joints.index("left_eye"), joints.index("right_eye")]
        ]
    points = None if landmarks is None else _read_landmarks(landmarks, mean, triangles)
    origin, note = head_origin(mean, eyeball_centres=eyes)
    notes = ["Neck and head joints and their pose correctives are left out; gaze rotates the eyes."]
    return ImportedModel(
        name=f"GNM Head {arrays.get('version', '')}".strip(),
        mean=mean - origin,
        identity_basis=arrays["vertex_identity_basis"].astype(np.float32),
        expression_basis=arrays["expression_basis"].astype(np.float32),
        expression_names=expressions,
        triangles=triangles,
        uv=uv,
        uv_triangles=uv_triangles,
        landmarks68=points,
        mirror=arrays["mirror_indices"].astype(np.int64),
        regions=_regions(groups),
        notes=tuple(notes if note is None else [*notes, note]),
    )


def _regions(groups: dict[str, Array]) -> dict[str, Array]:
    return {
        name: np.max([groups[group] for group in wanted], axis=0).astype(np.float64)
        for name, wanted in _GROUPS.items()
        if all(group in groups for group in wanted)
    }


def _one_square(corner_uv: Array) -> Array:
    """Return coordinates in one unit square, v down, with the UDIM tiles side by side."""
    tile = np.floor(corner_uv.min(axis=1) + 1e-6)
    inside = np.clip(corner_uv - tile[:, None], 0, 1)
    _, column = np.unique(tile, axis=0, return_inverse=True)
    column = column.reshape(-1)
    tiles = int(column.max()) + 1
    u = (inside[..., 0] + column[:, None]) / tiles
    return np.stack([u, 1 - inside[..., 1]], axis=-1)


def _read_landmarks(path: str | Path, mean: Array, triangles: Array) -> PointEmbedding:
    path = checked_path(path, what="GNM's head_sparse_68.txt", where=_WHERE)
    try:
        rows = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ModelFileError(f"{path.name} is not a table of numbers: {error}.") from error
    require_shape(rows, (68, 6), name="landmark rows", file=path.name)
    index, weight = rows[:, ::2].astype(np.int64), rows[:, 1::2]
    # The released file stores jaw points 2 to 6 in reverse; the true order gives the shorter line.
    swapped = np.arange(68)
    swapped[2:7] = swapped[2:7][::-1]
    points = (mean[index] * weight[..., None]).sum(1)

    def jaw_length(order: Array) -> float:
        return float(np.linalg.norm(np.diff(points[order][:17], axis=0), axis=1).sum())

    if jaw_length(swapped) < jaw_length(np.arange(68)):
        index, weight = index[swapped], weight[swapped]
    wanted = {tuple(sorted(row)) for row in index.tolist()}
    by_corners = {
        key: number
        for number, key in enumerate(map(tuple, np.sort(triangles, axis=1).tolist()))
        if key in wanted
    }
    missing = [row for row in index.tolist() if tuple(sorted(row)) not in by_corners]
    if missing:
        raise ModelFileError(
            f"{path.name} uses corners {missing[0]} that form no triangle of the model: the two "
            "files are of different versions."
        )
    chosen = np.array([by_corners[tuple(sorted(row))] for row in index.tolist()])
    barycentric = np.zeros((68, 3))
    for corner in range(3):
        match = triangles[chosen][:, corner, None] == index
        barycentric[:, corner] = (weight * match).sum(1)
    return PointEmbedding(chosen, barycentric)
