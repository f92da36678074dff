"""The assembly of skin, eyeballs, teeth, tongue and lashes: all follow the base mesh."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .eyes import (
    LidClosure,
    eyeball_mesh,
    keep_lids_seated,
    lid_closure,
    lid_correction,
    seat_eyeball,
    socket_shell,
)
from .makehuman import (
    EYE_HELPER,
    LEFT_EYE_HELPER,
    LOWER_TEETH_HELPER,
    UPPER_TEETH_HELPER,
    Accessory,
    BaseMesh,
    read_accessory,
)
from .mouth import close_lips, keep_lips_closed, lips_of, shrink_bag
from .sources import Sources
from .teeth import tooth_arch
from .topology import Skin, border_loop, hops_from, mirror_by_position, mirror_diagonals

# Edge of the upper front teeth relative to the line where the lips touch; visible in a smile.
_TOOTH_EDGE = np.array([0.0, -0.0034, -0.0092])
# MakeHuman's tongue fills the mouth, so it is moved.
_TONGUE_OFFSET = np.array([0.0, -0.0055, -0.001])

# The corners of a quad in reverse order, with the same diagonal.
_TURNED = [0, 3, 2, 1]

PARTS = ("skin", "eyeball_left", "eyeball_right", "teeth_upper", "teeth_lower", "tongue", "lashes")


@dataclass(frozen=True)
class Part:
    """A piece of the head that is not subdivided."""

    rest: NDArray[np.float64]
    """(V, 3) metres on the base mesh, or about the eyeball's centre."""
    quads: NDArray[np.int64]
    """(Q, 4) vertex indices."""
    uv: NDArray[np.float64]
    """(U, 2) within the part's own square, v down."""
    uv_quads: NDArray[np.int64]
    """(Q, 4) indices into `uv`."""
    mirror: NDArray[np.int64]
    """(V,) vertex on the other side within the part (within the other eyeball for eyeballs)."""


class Assembly:
    """All parts of the head, which follow the vertices of the base mesh."""

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
        self.lips = lips_of(skin, base.body_quads, base.vertices)
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
            quads, _ = mirror_diagonals(vertices, mirror, quads, quads)
            self.parts[f"teeth_{jaw}"] = Part(vertices, quads, uv, quads, mirror)
        for name, accessory in (("tongue", self.tongue), ("lashes", self.lashes)):
            vertices = accessory.fit(base.vertices)
            mirror = mirror_by_position(vertices)
            quads, uv_quads = mirror_diagonals(
                vertices, mirror, accessory.quads, accessory.uv_quads
            )
            self.parts[name] = Part(vertices, quads, accessory.uv, uv_quads, mirror)
        ball, quads, uv, uv_quads = eyeball_mesh()
        uv = uv * [0.5, -0.5] + 0.5
        identity = np.arange(len(ball))
        self.parts["eyeball_left"] = Part(ball, quads, uv, uv_quads, identity)
        self.parts["eyeball_right"] = Part(
            ball * [-1, 1, 1],
            quads[:, _TURNED],
            uv * [-1, 1] + [1, 0],
            uv_quads[:, _TURNED],
            identity,
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
        """Return displacements of the eyeball centres (*, 2, 3) for those of the base (*, 19158, 3).

        They follow the eye helper sideways and up, and the middle of the lid margin forward.
        """
        centres = []
        for side in (0, 1):
            centre = moved[..., _eye_helper(side), :].mean(-2)
            lids = moved[..., self.skin.base_index[self.middle[side]], :].mean(-2)
            centres.append(np.concatenate([centre[..., :2], lids[..., 2:]], -1))
        return np.stack(centres, -2)

    def displace(
        self, moved: NDArray[np.float64], head: NDArray[np.float64], centres: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return control (K, C, 3) and eyeball (K, 2, 3) displacements of identity modes.

        Lids stay on the eyeballs and lips stay closed for all people.

        Args:
            moved: (K, 19158, 3) displacements of the base mesh.
            head: (C, 3) control vertices of the mean head.
            centres: (2, 3) its eyeball centres.
        """
        eyes = self.eye_displacements(moved)
        teeth = [
            np.einsum("vh,khc->kvc", weights, moved[:, helper])
            for helper, weights in self._tooth_weights.values()
        ]
        tongue, lashes = (_follow(a, moved) for a in (self.tongue, self.lashes))
        skin = moved[:, self.skin.base_index]
        return self._join_modes(skin, eyes, [*teeth, tongue], lashes, head, centres), eyes

    def displace_skin(
        self, skin: NDArray[np.float64], head: NDArray[np.float64], centres: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the same for modes that are known only on the skin's control vertices (K, S, 3).

        Eyeballs follow their lids, teeth and tongue the lips, lashes the lid margin.
        """
        eyes = np.stack([skin[:, self.middle[side]].mean(1) for side in (0, 1)], 1)
        rims = np.concatenate([self.lips.lower, self.lips.upper])
        jaw = skin[:, rims].mean(1, keepdims=True)
        inner = [
            np.repeat(jaw, len(self.parts[name].rest), 1)
            for name in ("teeth_upper", "teeth_lower", "tongue")
        ]
        margin = np.concatenate(self.margin)
        start = len(head) - len(self.parts["lashes"].rest)
        nearest = margin[cKDTree(head[margin]).query(head[start:])[1]]
        return self._join_modes(skin, eyes, inner, skin[:, nearest], head, centres), eyes

    def _join_modes(
        self,
        skin: NDArray[np.float64],
        eyes: NDArray[np.float64],
        inner: list[NDArray[np.float64]],
        lashes: NDArray[np.float64],
        head: NDArray[np.float64],
        centres: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        count, lash_start = skin.shape[1], len(head) - lashes.shape[1]
        skin = keep_lips_closed(skin, head[:count], self.lips)
        lidded = np.concatenate([skin, lashes], 1)
        points = np.concatenate([head[:count], head[lash_start:]])
        change = np.zeros_like(lidded)
        for side in (0, 1):
            change += keep_lids_seated(
                lidded, eyes[:, side], points, self.margin[side], centres[side]
            )
        lidded += change
        skin, lashes = lidded[:, :count], lidded[:, count:]
        for side in (0, 1):
            ring, eye = self.ring[side], eyes[:, side : side + 1]
            skin[:, ring >= 2] = eye
            skin[:, ring == 1] = 0.55 * eye + 0.45 * skin[:, ring == 1]
        sizes = [len(self.parts[f"eyeball_{side}"].rest) for side in ("left", "right")]
        balls = [np.repeat(eyes[:, k : k + 1], size, 1) for k, size in enumerate(sizes)]
        return np.concatenate([skin, *balls, *inner, lashes], 1)

    def place(self, shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return control vertices (C, 3) and eyeball centres (2, 3) of a base shape, metres.

        The lids are moved onto the eyeballs, and the sockets are closed behind them.
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
        corrected = close_lips(corrected, self.skin, self.lips)
        corrected = shrink_bag(corrected, self.skin, self.lips)
        pieces = [corrected]
        for side, name in enumerate(("eyeball_left", "eyeball_right")):
            pieces.append(self.parts[name].rest + centres[side])
        teeth = [weights @ shape[helper] for helper, weights in self._tooth_weights.values()]
        front = teeth[0][np.abs(teeth[0][:, 0]) < 0.004]
        edge = front[front[:, 1].argmin()] * [0, 1, 1]
        lips = corrected[np.concatenate([self.lips.lower, self.lips.upper])]
        shift = lips[np.abs(lips[:, 0]).argsort()[:2]].mean(0) * [0, 1, 1] + _TOOTH_EDGE - edge
        pieces += [part + shift for part in teeth]
        pieces += [self.tongue.fit(shape) + _TONGUE_OFFSET + shift, lashes + lash_move]
        return np.concatenate(pieces), np.stack(centres)

    def lid_closure(self, points: NDArray[np.float64]) -> LidClosure:
        """Return the left eye's closure on control vertices (S, 3)."""
        return self._closure(self.skin.quads, self.skin.part_of_quad, points)

    def fine_lid_closure(self, fine: NDArray[np.float64]) -> LidClosure:
        """Return the left eye's closure on level-1 vertices (V, 3) of the skin."""
        return self._closure(self.skin.fine_quads, self.skin.fine_part, fine)

    def _closure(
        self, quads: NDArray[np.int64], part: NDArray[np.int64], points: NDArray[np.float64]
    ) -> LidClosure:
        loop = border_loop(quads[part == 1])
        outside = np.zeros(len(points), bool)
        outside[np.unique(quads[part == 0])] = True
        return lid_closure(loop, points, outside)

    @property
    def control_counts(self) -> dict[str, int]:
        """The number of control vertices of each part, in storage order."""
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
