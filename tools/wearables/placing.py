"""Positions of wearables on the mean default head, and the head vertices that they follow."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from face_model.makehuman import EYE_HELPER, BaseMesh
from face_model.topology import Skin, quad_components
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

from .pieces import Piece

LOWEST, WIDEST = -0.40, 0.30
"""Extent of the body down and to the sides, in metres from the point between the eyes."""


@dataclass(frozen=True)
class HeadOnBody:
    """The base mesh with its head replaced by the default head."""

    base: NDArray[np.float64]
    """(19158, 3) vertices, head space, metres."""
    control: NDArray[np.float64]
    """(S, 3) the head's control vertices, which are also its first vertices."""
    outer: NDArray[np.int64]
    """Control vertices on the outside of the skin."""
    quads: NDArray[np.int64]
    """(Q, 4) control quads of the outside."""
    border: NDArray[np.int64]
    """Control vertices where the neck is cut."""
    border_base: NDArray[np.int64]
    """The same vertices as indices of base vertices."""


def head_on_body(base: BaseMesh, skin: Skin, head: Path) -> HeadOnBody:
    """Return the base mesh moved to the default head; other parts follow the nearest skin."""
    control = load_file(head)["mean"][: len(skin.base_index)].astype(float)
    own = base.vertices - base.vertices[EYE_HELPER].mean(0)
    quads = skin.quads[skin.part_of_quad == 0]
    outer = np.unique(quads)
    known = own[skin.base_index[outer]]
    moved = own + spread(own, known, control[outer] - known, count=24)
    moved[skin.base_index] = control
    edges = {(a, b) for q in quads.tolist() for a, b in zip(q, q[1:] + q[:1], strict=True)}
    open_edges = [a for a, b in edges if (b, a) not in edges]
    lowest = control[open_edges, 1] < -0.10
    border = np.array(sorted(np.array(open_edges)[lowest]))
    return HeadOnBody(moved, control, outer, quads, border, skin.base_index[border])


def spread(
    points: NDArray[np.float64],
    known: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    count: int,
) -> NDArray[np.float64]:
    """Return values at points, averaged over the nearest known ones."""
    nearest, weights = neighbours(points, known, count=count)
    return (values[nearest] * weights[..., None]).sum(1)


def neighbours(
    points: NDArray[np.float64], known: NDArray[np.float64], *, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest known points (V, count) and weights that fall with distance."""
    distance, nearest = cKDTree(known).query(points, k=count + 1)
    reach = distance[:, -1:] + 1e-9
    weight = (1 - distance[:, :-1] / reach) / (distance[:, :-1] + 1e-4)
    return nearest[:, :-1], weight / weight.sum(1, keepdims=True)


def body_quads(body: HeadOnBody, base: BaseMesh, skin: Skin) -> NDArray[np.int64]:
    """Return the quads of shoulders and chest, which begin where the head ends."""
    ring = set(body.border_base.tolist())
    quads = base.body_quads
    cut = {
        (min(a, b), max(a, b))
        for q in quads.tolist()
        for a, b in zip(q, q[1:] + q[:1], strict=True)
        if a in ring and b in ring
    }
    label = quad_components(quads, cut)
    head = label[np.isin(quads, np.setdiff1d(skin.base_index, body.border_base)).any(1)][0]
    points = body.base[quads]
    near = (points[..., 1].min(1) > LOWEST) & (np.abs(points[..., 0]).max(1) < WIDEST)
    return quads[(label != head) & near]


def vertex_normals(points: NDArray[np.float64], quads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return unit normals of a quad mesh, weighted by area."""
    a, b, c, d = (points[quads[:, k]] for k in range(4))
    facing = np.cross(c - a, d - b)
    normals = np.zeros_like(points)
    for k in range(4):
        np.add.at(normals, quads[:, k], facing)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def torso(body: HeadOnBody, quads: NDArray[np.int64], *, lift: float) -> Piece:
    """Return shoulders and chest, or the cloth over them if `lift` (metres) is above 0.

    The texture's u is 0 in front and 1 behind, on both sides; v is 0 at the neck and grows with the
    distance from it.
    """
    normals = vertex_normals(body.base, quads)
    used, local = np.unique(quads, return_inverse=True)
    ring = body.base[body.border_base]
    away = np.linalg.norm(body.base[used][:, None] - ring[None], axis=-1).min(1)
    near = np.clip(away / 0.05, 0, 1)
    points = body.base[used] + lift * (0.35 + 0.65 * near)[:, None] * normals[used]
    return Piece(points, local.reshape(-1, 4), torso_uv(body, points), used)


LENGTH = 0.30
"""Distance from the neck over which the cloth texture extends, metres."""


def torso_uv(body: HeadOnBody, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return texture coordinates of the torso: angle about the neck, and distance from it."""
    ring = body.base[body.border_base]
    offset = points - ring.mean(0)
    angle = np.abs(np.arctan2(offset[:, 0], offset[:, 2] + 0.01)) / np.pi
    distance = np.linalg.norm(points[:, None] - ring[None], axis=-1).min(1)
    return np.stack([angle, np.clip(distance / LENGTH, 0, 1)], 1)


def flange(body: HeadOnBody, skin_piece: Piece) -> Piece:
    """Return the torso with a ring that extends up inside the neck, so that there is no gap."""
    rows = np.where(np.isin(skin_piece.source, body.border_base))[0]
    centre = body.base[body.border_base].mean(0)
    ring = skin_piece.points[rows]
    inside = ring + 0.15 * (centre - ring) + [0, 0.004, 0]
    # A copy of the ring keeps the normals of the shoulders.
    start = len(skin_piece.points)
    order = {int(r): start + k for k, r in enumerate(rows)}
    edges = {
        (a, b)
        for q in skin_piece.quads.tolist()
        for a, b in zip(q, q[1:] + q[:1], strict=True)
        if a in order and b in order
    }
    open_edges = sorted((a, b) for a, b in edges if (b, a) not in edges)
    upper = len(rows)
    quads = np.array(
        [[order[b], order[a], order[a] + upper, order[b] + upper] for a, b in open_edges]
    )
    return Piece(
        np.concatenate([skin_piece.points, ring, inside]),
        np.concatenate([skin_piece.quads, quads]),
        np.concatenate([skin_piece.uv, skin_piece.uv[rows], skin_piece.uv[rows]]),
        np.concatenate([skin_piece.source, skin_piece.source[rows], skin_piece.source[rows]]),
    )


def anchors(
    piece: Piece, body: HeadOnBody, candidates: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return four head vertices (V, 4) that each vertex follows, and their weights."""
    nearest, weights = neighbours(piece.points, body.control[candidates], count=4)
    return candidates[nearest], weights
