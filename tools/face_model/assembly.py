"""Skin, eyeballs, teeth, tongue and lashes put together: how each control vertex follows the base."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .eyes import eyeball_mesh, lid_correction, seat_eyeball, socket_shell
from .makehuman import (
    EYE_HELPER,
    LEFT_EYE_HELPER,
    LOWER_TEETH_HELPER,
    UPPER_TEETH_HELPER,
    Accessory,
    BaseMesh,
    read_accessory,
)
from .mouth import close_lips, lip_rims
from .sources import Sources
from .teeth import tooth_arch
from .topology import Skin, hops_from, mirror_by_position

# Edge of the upper front teeth relative to the line where the lips meet: visible in a smile.
_TOOTH_EDGE = np.array([0.0, -0.0034, -0.0092])
# MakeHuman's tongue fills the mouth.
_TONGUE_OFFSET = np.array([0.0, -0.0055, -0.001])

# A quad seen from behind that keeps its diagonal.
_TURNED = [0, 3, 2, 1]

PARTS = ("skin", "eyeball_left", "eyeball_right", "teeth_upper", "teeth_lower", "tongue", "lashes")


@dataclass(frozen=True)
class Part:
    """A piece of the head that is not subdivided."""

    rest: NDArray[np.float64]
    """(V, 3) metres on the base mesh, or about the eyeball's centre."""
    quads: NDArray[np.int64]
    """(Q, 4)."""
    uv: NDArray[np.float64]
    """(U, 2) within the part's own square, v down."""
    uv_quads: NDArray[np.int64]
    """(Q, 4) indices into `uv`."""
    mirror: NDArray[np.int64]
    """(V,) vertex on the other side within the part (within the other eyeball for eyeballs)."""


class Assembly:
    """All parts of the head and how they follow the vertices of the base mesh."""

    def __init__(self, sources: Sources, base: BaseMesh, skin: Skin) -> None:
        self.base, self.skin = base, skin
        self.tongue = read_accessory(sources, "tongue", "tongue01")
        self.lashes = read_accessory(sources, "eyelashes", "Eyelashes01")
        points = base.vertices[skin.base_index]
        outside = np.unique(skin.quads[skin.part_of_quad == 0])
        self.margin, self.ring = [], []
        for socket in (1, 2):
            quads = skin.quads[skin.part_of_quad == socket]
            margin = np.intersect1d(outside, np.unique(quads))
            self.margin.append(margin)
            self.ring.append(hops_from(quads, len(points), margin))
        self.lips = lip_rims(skin, base.body_quads, base.vertices)
        self.middle = []
        for side, margin in enumerate(self.margin):
            centre = base.vertices[_eye_helper(side)].mean(0)
            self.middle.append(margin[np.abs(points[margin, 0] - centre[0]) < 0.006])
        origin = base.vertices[EYE_HELPER].mean(0)
        self._tooth_weights, self.parts = {}, {}
        for jaw, helper in (("upper", UPPER_TEETH_HELPER), ("lower", LOWER_TEETH_HELPER)):
            vertices, quads, uv = tooth_arch(jaw)
            vertices = vertices + origin
            frame = np.c_[base.vertices[helper], np.ones(68)]
            weights = np.c_[vertices, np.ones(len(vertices))] @ np.linalg.pinv(frame)
            self._tooth_weights[jaw] = (helper, weights)
            mirror = mirror_by_position(vertices)
            self.parts[f"teeth_{jaw}"] = Part(vertices, quads, uv, quads, mirror)
        for name, accessory in (("tongue", self.tongue), ("lashes", self.lashes)):
            vertices = accessory.fit(base.vertices)
            mirror = mirror_by_position(vertices)
            self.parts[name] = Part(
                vertices, accessory.quads, accessory.uv, accessory.uv_quads, mirror
            )
        ball, quads, uv, uv_quads = eyeball_mesh()
        uv = uv * [0.5, -0.5] + 0.5
        identity = np.arange(len(ball))
        self.parts["eyeball_left"] = Part(ball, quads, uv, uv_quads, identity)
        self.parts["eyeball_right"] = Part(
            ball * [-1, 1, 1], quads[:, _TURNED], uv * [-1, 1] + [1, 0], uv_quads[:, _TURNED], identity
        )

    @property
    def needed(self) -> NDArray[np.int64]:
        """Base vertices that move any control vertex, ascending."""
        used = np.zeros(len(self.base.vertices), bool)
        used[self.skin.base_index] = True
        for helper in (EYE_HELPER, UPPER_TEETH_HELPER, LOWER_TEETH_HELPER):
            used[helper] = True
        for accessory in (self.tongue, self.lashes):
            used[accessory.references[accessory.weights != 0]] = True
        return np.where(used)[0]

    def eye_displacements(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how the two eyeball centres (*, 2, 3) follow base displacements (*, 19158, 3).

        Sideways and up with the eye helper, forward with the middle of the lid margin.
        """
        centres = []
        for side in (0, 1):
            centre = moved[..., _eye_helper(side), :].mean(-2)
            lids = moved[..., self.skin.base_index[self.middle[side]], :].mean(-2)
            centres.append(np.concatenate([centre[..., :2], lids[..., 2:]], -1))
        return np.stack(centres, -2)

    def displace(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return control displacements (K, C, 3) for identity displacements (K, 19158, 3)."""
        eyes = self.eye_displacements(moved)
        pieces = [self._displace_skin(moved[:, self.skin.base_index], eyes)]
        for side, name in enumerate(("eyeball_left", "eyeball_right")):
            count = len(self.parts[name].rest)
            pieces.append(np.repeat(eyes[:, side : side + 1], count, 1))
        for jaw in ("upper", "lower"):
            helper, weights = self._tooth_weights[jaw]
            pieces.append(np.einsum("vh,khc->kvc", weights, moved[:, helper]))
        pieces += [_follow(a, moved) for a in (self.tongue, self.lashes)]
        return np.concatenate(pieces, 1)

    def _displace_skin(
        self, skin: NDArray[np.float64], eyes: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Let the sockets' inside follow the eyeballs."""
        result = skin.copy()
        for side in (0, 1):
            ring, eye = self.ring[side], eyes[:, side : side + 1]
            result[:, ring >= 2] = eye
            result[:, ring == 1] = 0.55 * eye + 0.45 * result[:, ring == 1]
        return result

    def place(
        self, shape: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return control vertices (C, 3) and eyeball centres (2, 3) on a full base shape, metres.

        The lids are laid on the eyeballs and the sockets closed behind them.
        """
        skin = shape[self.skin.base_index]
        corrected, lash_move = skin.copy(), 0.0
        lashes = self.lashes.fit(shape)
        centres = []
        for side in (0, 1):
            margin, ring = self.margin[side], self.ring[side]
            seat = seat_eyeball(skin[margin], shape[_eye_helper(side)].mean(0))
            both = np.concatenate([skin, lashes])
            move = lid_correction(both, margin, seat)
            move[: len(skin)][ring > 0] = 0
            corrected += move[: len(skin)]
            lash_move = lash_move + move[len(skin) :]
            centres.append(seat)
        for side in (0, 1):
            corrected = socket_shell(corrected, self.ring[side], self.margin[side], centres[side])
        corrected = close_lips(corrected, self.skin, *self.lips)
        pieces = [corrected]
        for side, name in enumerate(("eyeball_left", "eyeball_right")):
            pieces.append(self.parts[name].rest + centres[side])
        teeth = [weights @ shape[helper] for helper, weights in self._tooth_weights.values()]
        front = teeth[0][np.abs(teeth[0][:, 0]) < 0.004]
        edge = front[front[:, 1].argmin()] * [0, 1, 1]
        lips = corrected[np.concatenate(self.lips)]
        shift = lips[np.abs(lips[:, 0]).argsort()[:2]].mean(0) * [0, 1, 1] + _TOOTH_EDGE - edge
        pieces += [part + shift for part in teeth]
        pieces += [self.tongue.fit(shape) + _TONGUE_OFFSET + shift, lashes + lash_move]
        return np.concatenate(pieces), np.stack(centres)

    @property
    def control_counts(self) -> dict[str, int]:
        """Number of control vertices of each part, in storage order."""
        counts = {"skin": len(self.skin.base_index)}
        return counts | {name: len(self.parts[name].rest) for name in PARTS[1:]}

    @property
    def fine_triangles(self) -> NDArray[np.int64]:
        """(T, 3) level-1 triangles, two for each quad."""
        quads, start = [self.skin.fine_quads], self.skin.subdivision.matrix.shape[0]
        for name in PARTS[1:]:
            quads.append(self.parts[name].quads + start)
            start += len(self.parts[name].rest)
        return np.concatenate(quads)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)

    @property
    def control_mirror(self) -> NDArray[np.int64]:
        """(C,) control vertex on the other side."""
        return self._join_mirror(self.skin.mirror)

    def _join_mirror(self, skin_mirror: NDArray[np.int64]) -> NDArray[np.int64]:
        pieces, start = [skin_mirror], len(skin_mirror)
        size = len(self.parts["eyeball_left"].rest)
        pieces += [np.arange(size) + start + size, np.arange(size) + start]
        start += 2 * size
        for name in PARTS[3:]:
            pieces.append(self.parts[name].mirror + start)
            start += len(self.parts[name].rest)
        return np.concatenate(pieces)

    def fine_mirror(self, skin_mirror: NDArray[np.int64]) -> NDArray[np.int64]:
        """(V,) level-1 vertex on the other side, from the level-1 mirror of the skin."""
        return self._join_mirror(skin_mirror)


def _eye_helper(side: int) -> slice:
    size = LEFT_EYE_HELPER.stop - LEFT_EYE_HELPER.start
    start = LEFT_EYE_HELPER.start + side * size
    return slice(start, start + size)


def _follow(accessory: Accessory, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("vk,nvkc->nvc", accessory.weights, moved[:, accessory.references])
