"""Surrey Face Model (registration needed; the 3,448-vertex shape is Apache-2.0): eos .bin files.

The reader follows github.com/patrikhuber/eos, `include/eos/morphablemodel/`: `MorphableModel.hpp` and
`PcaModel.hpp` give the order of fields, `io/eigen_cerealisation.hpp` the matrices (int32 rows,
int32 columns, float32 column by column), `Blendshape.hpp` the expression file; sequences start
with a uint64 length (cereal's portable default). Vertices are in millimetres, +Y up, +Z out of
the face.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lifemask.morphable.importers.imported import (
    Array,
    ImportedModel,
    ModelFileError,
    PointEmbedding,
    checked_path,
    cylindrical_uv,
    embed_vertices,
    head_origin,
    require_shape,
    require_triangles,
)

_WHERE = "https://github.com/patrikhuber/eos (folder share)"


class _Reader:
    """Little-endian binary of cereal's BinaryArchive."""

    def __init__(self, path: Path) -> None:
        self.name, self.data, self.offset = path.name, path.read_bytes(), 0

    def take(self, size: int) -> bytes:
        end = self.offset + size
        if size < 0 or end > len(self.data):
            raise ModelFileError(
                f"{self.name} ends after {len(self.data)} bytes where {end} are needed: the "
                "download is incomplete, or it is not an eos binary of this kind."
            )
        self.offset, start = end, self.offset
        return self.data[start:end]

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def matrix(self) -> Array:
        rows, columns = self.number("i"), self.number("i")
        if rows < 0 or columns < 0:
            raise ModelFileError(f"{self.name} is not an eos binary: a matrix has negative size.")
        values = np.frombuffer(self.take(4 * rows * columns), dtype="<f4")
        return values.reshape(columns, rows).T

    def sequence(self, dtype: str, width: int) -> Array:
        length = self.number("Q")
        size = np.dtype(dtype).itemsize * width
        return np.frombuffer(self.take(length * size), dtype=dtype).reshape(length, width)

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")


def load_surrey(
    path: str | Path,
    *,
    blendshapes: str | Path | None = None,
    landmarks: str | Path | None = None,
) -> ImportedModel:
    """Read a Surrey Face Model of any resolution.

    Args:
        path: `sfm_shape_3448.bin` or another eos model.
        blendshapes: `expression_blendshapes_3448.bin`; without it the model has no expressions.
        landmarks: `ibug_to_sfm.txt`; vertices for the iBUG points.

    Raises:
        FileNotFoundError: a file does not exist.
        ModelFileError: a file is damaged, a pointer, or too old.
    """
    path = checked_path(path, what="a Surrey Face Model (sfm_shape_3448.bin)", where=_WHERE)
    shape = _read_shape(path)
    positions, triangles = shape.positions, shape.triangles
    notes = ["The colour model is left out: it is stored per vertex, not as a texture."]
    if shape.version > 1:
        notes.append("Expressions stored in the file are left out; pass blendshapes=.")
    uv, uv_triangles = shape.uv, triangles
    if len(uv) != len(positions):
        uv, uv_triangles = cylindrical_uv(shape.millimetres, triangles)
        notes.append("Texture coordinates are a cylindrical projection: the file contains none.")
    names: tuple[str, ...] = ()
    expression = np.zeros((0, len(positions), 3), np.float32)
    if blendshapes is not None:
        names, expression = _read_blendshapes(blendshapes, len(positions))
    embedding, points = None, None
    if landmarks is not None:
        known = _read_mapping(landmarks, len(positions))
        embedding, points, missing = _embedded(known, positions, triangles)
        notes.extend(missing)
    origin, note = head_origin(positions, landmarks68=points)
    return ImportedModel(
        name=f"Surrey Face Model ({len(positions)} vertices)",
        mean=positions - origin,
        identity_basis=shape.identity,
        expression_basis=expression * np.float32(1e-3),
        expression_names=names,
        triangles=triangles,
        uv=uv,
        uv_triangles=uv_triangles,
        landmarks68=embedding,
        notes=tuple(notes if note is None else [*notes, note]),
    )


@dataclass(frozen=True)
class _Shape:
    """The shape model of an eos file."""

    version: int
    """Format of the file."""
    millimetres: Array
    """Mean vertices (V, 3) as stored."""
    identity: Array
    """Metres per standard deviation (K, V, 3)."""
    triangles: Array
    """Vertex indices (T, 3)."""
    uv: Array
    """Texture coordinates (V, 2); empty where the file has none."""

    @property
    def positions(self) -> Array:
        """Mean vertices (V, 3) in metres, double precision."""
        return self.millimetres.astype(np.float64) * 1e-3


def _read_shape(path: Path) -> _Shape:
    reader = _Reader(path)
    version = reader.number("I")
    if version not in (1, 2, 3, 4):
        raise ModelFileError(
            f"{path.name} has eos format version {version}; 1 to 4 are known. Download the recent "
            f"model files from {_WHERE}."
        )
    mean, basis, variance, triangles = _read_pca(reader)
    _read_pca(reader)  # The colour model.
    vertices = len(mean) // 3
    uv = reader.sequence("<f8", 2).astype(np.float64) if version == 1 else np.zeros((0, 2))
    identity = (basis * np.sqrt(variance)).T.reshape(-1, vertices, 3) * np.float32(1e-3)
    triangles = require_triangles(triangles, vertices, file=path.name)
    return _Shape(version, mean.reshape(-1, 3), identity, triangles, uv)


def _embedded(
    known: dict[int, int], positions: Array, triangles: Array
) -> tuple[PointEmbedding | None, Array | None, list[str]]:
    """Return the 68 landmarks on the mesh, their positions for the origin, and notes on gaps.

    Args:
        known: vertex by iBUG point 0 to 67.
        positions: mean vertices, metres.
        triangles: triangles of the mesh.
    """
    if len(known) == 68:
        embedding = embed_vertices(np.array([known[k] for k in range(68)]), triangles)
        return embedding, embedding.points(positions, triangles), []
    dropped = sorted(set(range(68)) - set(known))
    notes = [f"Landmarks are left out: the mapping lacks iBUG points {dropped}."]
    if not {36, 39, 42, 45} <= set(known):
        return None, None, notes
    # The mapping has the corners of the eyes, and the origin needs no other points.
    points = np.zeros((68, 3))
    for point, vertex in known.items():
        points[point] = positions[vertex]
    return None, points, notes


def _read_pca(reader: _Reader) -> tuple[Array, Array, Array, Array]:
    """Return mean (3V,), orthonormal basis (3V, K), variances (K,) and triangles (T, 3)."""
    mean, basis, variance = reader.matrix(), reader.matrix(), reader.matrix()
    triangles = reader.sequence("<i4", 3)
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    if len(mean) % 3 or (len(mean) and basis.shape != (len(mean), len(variance))):
        raise ModelFileError(
            f"{reader.name}: mean {mean.shape}, basis {basis.shape} and variances "
            f"{variance.shape} do not belong together; the file is damaged."
        )
    return mean, basis, variance, triangles


def _read_blendshapes(path: str | Path, vertices: int) -> tuple[tuple[str, ...], Array]:
    path = checked_path(path, what="eos blendshapes", where=_WHERE)
    reader = _Reader(path)
    names: list[str] = []
    shapes: list[Array] = []
    for _ in range(reader.number("Q")):
        names.append(reader.text())
        shape = reader.matrix()
        require_shape(shape, (3 * vertices, 1), name=f"blendshape {names[-1]}", file=path.name)
        shapes.append(shape.reshape(-1, 3))
    return tuple(names), np.array(shapes, dtype=np.float32).reshape(-1, vertices, 3)


def _read_mapping(path: str | Path, vertices: int) -> dict[int, int]:
    """Return vertex by iBUG point 0..67 from lines like `37 = 177 # right.eye.corner_outer`."""
    path = checked_path(path, what="eos's ibug_to_sfm.txt", where=_WHERE)
    known: dict[int, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].replace("=", " ").replace('"', " ").split()
        if len(words) == 2 and all(word.isdigit() for word in words):
            point, vertex = int(words[0]) - 1, int(words[1])
            if 0 <= point < 68 and vertex < vertices:
                known[point] = vertex
    return known
