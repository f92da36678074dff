"""MakeHuman's accessories: names, reference lengths, and geometry on hm08."""

from dataclasses import dataclass, replace

import numpy as np
from face_model.makehuman import read_accessory
from face_model.sources import Sources
from numpy.typing import NDArray

_HM08 = (1.4800, 2.3298, 1.9221)
_LONG = (1.3980, 2.2048, 1.8461)

# The JSON files lack the lengths of their .mhclo originals. Left out are community hair, hair that
# hides the face or looks poor (bob01 in part, Braid01), and the brows 006 and 007.
HAIR: dict[str, tuple[float, float, float]] = {
    "afro01": (1.7412, 2.7409, 2.2613),
    "bob01": _LONG,
    "bob02": _LONG,
    "long01": _LONG,
    "ponytail01": _LONG,
    "short01": (1.6682, 2.8351, 2.3542),
    "short02": (1.4340, 2.4098, 2.0001),
    "short03": _LONG,
    "short04": _HM08,
}
BROWS = tuple(f"eyebrow{k:03d}" for k in (1, 2, 3, 4, 5, 8, 9, 10, 11, 12))
LASH_HELPER = 14742
"""First of the base vertices of lashes, in the order of the head's lash vertices."""
LASHES = ("Eyelashes01", "eyelashes02", "eyelashes03", "eyelashes04")
FOLDERS = (
    "proxies/hair/",
    "proxies/eyebrows/eyebrow0",
    "proxies/eyelashes/",
    "proxies/clothes/fedora/",
    "proxies/clothes/glasses/",
)


@dataclass(frozen=True)
class Piece:
    """A textured mesh near the head; every vertex has one texture coordinate."""

    points: NDArray[np.float64]
    """(V, 3) metres in head space."""
    quads: NDArray[np.int64]
    """(Q, 4) vertex indices."""
    uv: NDArray[np.float64]
    """(V, 2) in [0, 1], origin at the top left, v down."""
    source: NDArray[np.int64]
    """(V,) index of the vertex in the original mesh."""

    def part(self, wanted: NDArray[np.bool_]) -> "Piece":
        """Return the wanted quads with their vertices."""
        used, quads = np.unique(self.quads[wanted], return_inverse=True)
        return Piece(self.points[used], quads.reshape(-1, 4), self.uv[used], self.source[used])


def joined(
    points: NDArray[np.float64],
    quads: NDArray[np.int64],
    uv: NDArray[np.float64],
    uv_quads: NDArray[np.int64],
) -> Piece:
    """Return a mesh with its vertices split at the seams of its texture."""
    pairs, corners = np.unique(
        np.stack([quads, uv_quads], -1).reshape(-1, 2), axis=0, return_inverse=True
    )
    return Piece(
        points[pairs[:, 0]], corners.reshape(-1, 4), np.clip(uv[pairs[:, 1]], 0, 1), pairs[:, 0]
    )


def fitted(sources: Sources, folder: str, name: str, base: NDArray[np.float64]) -> Piece:
    """Return an accessory on a head with the given base vertices (19158, 3), head space, metres."""
    accessory = read_accessory(sources, folder, name)
    if folder == "hair":
        accessory = replace(accessory, lengths=HAIR[name])
    return joined(accessory.fit(base), accessory.quads, accessory.uv, accessory.uv_quads)


def simplified(piece: Piece, cell: float) -> Piece:
    """Return a mesh with the vertices in each cell of a grid merged; it has no texture.

    Args:
        piece: closed parts with rounded edges, without a picture.
        cell: width of a cell, metres.
    """
    keys = np.rint(piece.points / cell).astype(np.int64)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    share = np.bincount(group)
    points = np.stack([np.bincount(group, piece.points[:, k]) / share for k in range(3)], 1)
    first = np.unique(group, return_index=True)[1]
    quads = group[piece.quads]
    distinct = np.array([len(set(quad)) for quad in quads.tolist()])
    quads = quads[distinct > 2]
    # A quad with three vertices repeats one; the triangle (0, 1, 2) or (0, 2, 3) then has no area.
    unique = np.unique(np.sort(quads, 1), axis=0, return_index=True)[1]
    return Piece(points, quads[np.sort(unique)], np.zeros((len(points), 2)), piece.source[first])


def solid(piece: Piece, alpha: NDArray[np.float64], *, cells: int = 4) -> Piece:
    """Return the parts of a mesh that its picture's opacity (H, W) leaves visible.

    Every quad is cut into `cells` x `cells`; those that are mostly transparent are left out.
    """
    steps = np.linspace(0, 1, cells + 1)
    s, t = (x.reshape(-1, 1) for x in np.meshgrid(steps, steps))
    weights = np.concatenate([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], 1)
    points = np.einsum("kb,qbc->qkc", weights, piece.points[piece.quads])
    uv = np.einsum("kb,qbc->qkc", weights, piece.uv[piece.quads])
    row, column = (x.reshape(-1) for x in np.mgrid[0:cells, 0:cells])
    corner = row * (cells + 1) + column
    small = np.stack([corner, corner + 1, corner + cells + 2, corner + cells + 1], 1)
    start = np.arange(len(piece.quads))[:, None, None] * len(weights)
    quads = (small[None] + start).reshape(-1, 4)
    points, uv = points.reshape(-1, 3), uv.reshape(-1, 2)
    height, width = alpha.shape
    middle = np.clip(uv[quads].mean(1) * [width, height], 0, [width - 1, height - 1]).astype(int)
    kept = alpha[middle[:, 1], middle[:, 0]] > 0.4
    return Piece(points, quads, uv, np.zeros(len(points), int)).part(kept)
