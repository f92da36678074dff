"""One texture layout for the whole head: the upright skin, and small islands for other parts.

The skin is cut along the back midline, embedded in the plane after Tutte ("How to draw a graph",
1963), then relaxed by Scalable Locally Injective Mappings (Rabinovich et al., 2017) under the
symmetric Dirichlet energy, so that no triangle flips. Only the left half is solved; the right half
is its mirror image about u = 0.5.
"""

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import factorized, splu

from .assembly import PARTS, Assembly
from .topology import refine_mirror


def border_loops(triangles: NDArray[np.int64]) -> list[list[int]]:
    """Return the closed border loops of a triangle mesh, longest first, in triangle order."""
    edges = {(a, b) for t in triangles.tolist() for a, b in zip(t, t[1:] + t[:1], strict=True)}
    following = {a: b for a, b in edges if (b, a) not in edges}
    loops = []
    while following:
        start = min(following)
        loop, here = [], start
        while here in following:
            loop.append(here)
            here = following.pop(here)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def tutte_embedding(
    triangles: NDArray[np.int64], count: int, fixed: NDArray[np.int64], place: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (count, 2): free vertices are the mean of their neighbours, `fixed` ones at `place`."""
    a = np.concatenate([triangles[:, k] for k in range(3)])
    b = np.concatenate([triangles[:, (k + 1) % 3] for k in range(3)])
    graph = sp.coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)).tocsr()
    graph = ((graph + graph.T) > 0).astype(float)
    laplacian = (sp.diags(np.asarray(graph.sum(1)).ravel()) - graph).tocsr()
    free = np.setdiff1d(np.unique(triangles), fixed)
    result = np.zeros((count, 2))
    result[fixed] = place
    solve = factorized(laplacian[free][:, free].tocsc())
    right = -laplacian[free][:, fixed] @ place
    result[free] = np.stack([solve(right[:, k]) for k in range(2)], -1)
    return result


class LocallyInjectiveMap:
    """Relaxes a planar map without flips towards given rest triangles."""

    def __init__(self, rest: NDArray[np.float64], triangles: NDArray[np.int64], count: int) -> None:
        """Use the target triangles `rest` (T, 3, 2) in the plane, counter-clockwise."""
        edge1, edge2 = rest[:, 1] - rest[:, 0], rest[:, 2] - rest[:, 0]
        double = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
        self.area = double / 2
        self.triangles, self.count = triangles, count
        # The gradients of the hat functions: d/dx and d/dy of a piecewise linear map.
        opposite = [rest[:, 2] - rest[:, 1], rest[:, 0] - rest[:, 2], rest[:, 1] - rest[:, 0]]
        rows = np.repeat(np.arange(len(triangles)), 3)
        columns = triangles.reshape(-1)
        gx = np.stack([-e[:, 1] / double for e in opposite], -1).reshape(-1)
        gy = np.stack([e[:, 0] / double for e in opposite], -1).reshape(-1)
        shape = (len(triangles), count)
        self.dx = sp.csr_matrix((gx, (rows, columns)), shape)
        self.dy = sp.csr_matrix((gy, (rows, columns)), shape)

    def jacobians(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Jacobian of the map in each triangle (T, 2, 2)."""
        return np.stack([self.dx @ uv, self.dy @ uv], -1)

    def energy(self, uv: NDArray[np.float64]) -> float:
        """Return the symmetric Dirichlet energy; infinite if a triangle is flipped."""
        jacobian = self.jacobians(uv)
        determinant = np.linalg.det(jacobian)
        if (determinant <= 0).any():
            return np.inf
        squared = (jacobian**2).sum((1, 2))
        return float((self.area * (squared + squared / determinant**2)).sum())

    def step(
        self, uv: NDArray[np.float64], on_axis: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        """Return the map after one SLIM iteration, and its energy; vertices `on_axis` keep u = 0."""
        jacobian = self.jacobians(uv)
        u, s, vh = np.linalg.svd(jacobian)
        flip = np.sign(np.linalg.det(u @ vh))
        u[:, :, 1] *= flip[:, None]
        s[:, 1] *= flip
        s = np.maximum(s, 1e-9)
        weight = np.sqrt(np.maximum((s - s**-3) / np.where(np.abs(s - 1) < 1e-6, 1, s - 1), 1e-9))
        weight = np.where(np.abs(s - 1) < 1e-6, 2.0, weight)
        w = (u * weight[:, None]) @ u.transpose(0, 2, 1)
        wr = w @ (u @ vh)
        root = np.sqrt(self.area)
        blocks, right = [], []
        for i in range(2):
            for k, d in enumerate((self.dx, self.dy)):
                scaled = [sp.diags(root * w[:, i, j]) @ d for j in range(2)]
                blocks.append(sp.hstack(scaled))
                right.append(root * wr[:, i, k])
        a = sp.vstack(blocks).tocsr()
        n = self.count
        anchor = np.full(2 * n, 1e-6 * self.area.mean())
        anchor[on_axis] = 1e6
        matrix = (a.T @ a + sp.diags(anchor)).tocsc()
        flat = uv.T.reshape(-1)
        target = splu(matrix).solve(a.T @ np.concatenate(right) + anchor * flat)
        move = target.reshape(2, n).T - uv
        move[on_axis, 0] = 0
        size = min(1.0, 0.9 * self._first_flip(uv, move))
        before = self.energy(uv)
        while size > 1e-8:
            after = self.energy(uv + size * move)
            if after < before:
                return uv + size * move, after
            size /= 2
        return uv, before

    def _first_flip(self, uv: NDArray[np.float64], move: NDArray[np.float64]) -> float:
        """Return the smallest positive step at which a triangle's area becomes zero."""
        p, d = uv[self.triangles], move[self.triangles]
        p1, p2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], d[:, 1] - d[:, 0], d[:, 2] - d[:, 0]

        def cross(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            return x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]

        a, b, c = cross(d1, d2), cross(p1, d2) + cross(d1, p2), cross(p1, p2)
        scale = np.maximum(np.abs(a), 1e-30)
        root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            roots = np.stack([(-b - root) / (2 * a), (-b + root) / (2 * a)], -1)
            linear = -c / b
        real = (b * b - 4 * a * c >= 0) & (scale > 1e-30)
        roots = np.where(real[:, None], roots, np.inf)
        roots = np.where((scale <= 1e-30)[:, None], linear[:, None], roots)
        positive = roots[(roots > 0) & np.isfinite(roots)]
        return float(positive.min()) if len(positive) else np.inf


def flatten_triangles(
    points: NDArray[np.float64], triangles: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each triangle in the plane (T, 3, 2), counter-clockwise, in its true size."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    x = np.linalg.norm(b - a, axis=1)
    unit = (b - a) / x[:, None]
    along = ((c - a) * unit).sum(1)
    up = np.linalg.norm((c - a) - along[:, None] * unit, axis=1)
    zero = np.zeros_like(x)
    return np.stack([np.c_[zero, zero], np.c_[x, zero], np.c_[along, up]], 1)


def unwrap_half(
    points: NDArray[np.float64],
    triangles: NDArray[np.int64],
    front_midline: NDArray[np.bool_],
    mouth_border: NDArray[np.bool_],
    density: NDArray[np.float64],
    importance: NDArray[np.float64],
    *,
    iterations: int = 60,
) -> NDArray[np.float64]:
    """Return planar coordinates (V, 2) of the left half of the skin, millimetres: x >= 0, y up.

    Args:
        points: (V, 3) metres.
        triangles: (T, 3) triangles of the left half.
        front_midline: (V,) vertices that must stay on x = 0 (the back midline is a free border).
        mouth_border: (V,) vertices of the border between lips and mouth cavity.
        density: (T,) target size of each triangle relative to its true size.
        importance: (T,) weight of each triangle's distortion.
        iterations: number of SLIM iterations.
    """
    millimetres = points * 1000
    count = len(points)
    outer, *holes = border_loops(triangles)
    on_mouth = mouth_border[np.array(outer)]
    first = next(k for k in range(len(outer)) if on_mouth[k] and not on_mouth[k - 1])
    outer = outer[first:] + outer[:first]
    lips = outer[: int(on_mouth.sum())]
    # The mouth interrupts the midline, so a fan around a new vertex on the midline closes it.
    lip_fan = np.array([(b, a, count) for a, b in pairwise(lips)])
    angle = np.linspace(np.pi / 2, -np.pi / 2, len(lips))
    if points[lips[0], 1] < points[lips[-1], 1]:
        angle = -angle
    ellipse = np.stack([22 * np.cos(angle), 3 * np.sin(angle)], -1)
    lip_rest = np.stack([ellipse[1:], ellipse[:-1], np.zeros_like(ellipse[1:])], 1)
    hole_fans = [
        np.array([(b, a, count + 1 + k) for a, b in zip(h, h[1:] + h[:1], strict=True)])
        for k, h in enumerate(holes)
    ]
    centres = [millimetres[h].mean(0) for h in holes]
    filled = np.concatenate([triangles, *hole_fans, lip_fan])
    solid = np.concatenate([millimetres, np.zeros((1, 3)), *[c[None] for c in centres]])
    rest = flatten_triangles(solid, np.concatenate([triangles, *hole_fans]))
    scale = np.concatenate([density, np.ones(len(rest) - len(triangles))])
    rest = np.concatenate([rest * scale[:, None, None], lip_rest])
    total = count + 1 + len(holes)

    rim = [lips[0], count, lips[-1], *outer[len(lips) :]]
    axis_flag = np.append(front_midline, [True] + [False] * len(holes))[rim]
    start = next(k for k in range(len(rim)) if axis_flag[k] and not axis_flag[k - 1])
    rim = rim[start:] + rim[:start]
    axis = [v for v in rim if v == count or (v < count and front_midline[v])]
    free = rim[len(axis) :]
    turn = np.linspace(-np.pi / 2, np.pi / 2, len(free) + 2)[1:-1]
    place = np.concatenate(
        [
            np.stack([np.zeros(len(axis)), np.linspace(1, -1, len(axis))], -1),
            np.stack([np.cos(turn), np.sin(turn)], -1),
        ]
    )
    uv = tutte_embedding(filled, total, np.array(rim), place)
    relax = LocallyInjectiveMap(rest, filled, total)
    uv *= np.sqrt(relax.area.sum() / (np.pi / 2))
    weight = np.concatenate([importance, np.full(len(rest) - len(triangles), 0.1)])
    relax.area *= weight
    energy = relax.energy(uv)
    for _ in range(iterations):
        uv, after = relax.step(uv, np.array(axis))
        if after > energy * (1 - 1e-4):
            break
        energy = after
    uv[axis, 0] = 0
    return uv[:count]


def build_atlas(
    assembly: Assembly, control: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the texture layout of the level-1 head: uv (U, 2), v down, and uv quads (Q, 4).

    Every island has a mirror image about u = 0.5, or is symmetric itself.

    Args:
        assembly: the parts.
        control: (C, 3) control vertices of the mean head, metres, origin between the eyes.
    """
    skin = assembly.skin
    points = skin.refine(control[: len(skin.base_index)])
    rest = skin.refine(assembly.base.vertices[skin.base_index])
    quads, part, mirror = skin.fine_quads, skin.fine_part, refine_mirror(skin)
    sheets = _Sheets()
    _add_skin(sheets, points, rest, quads, part, mirror)
    for socket, centre in ((1, (0.966, 0.80)), (2, (0.034, 0.80))):
        chosen = np.where(part == socket)[0]
        disc = _disc(quads[chosen], points, mirror if socket == 2 else None)
        sheets.add(chosen, quads[chosen], disc * 0.025 + centre)
    chosen = np.where(part == 3)[0]
    bag = _disc(quads[chosen], points, None)
    bag = (bag + bag[mirror] * [-1, 1]) / 2
    sheets.add(chosen, quads[chosen], bag * 0.03 + (0.5, 0.962))

    start = len(quads)
    pieces = {}
    for name in PARTS[1:]:
        pieces[name] = np.arange(len(assembly.parts[name].quads)) + start
        start += len(pieces[name])
    for name, centre in (("eyeball_left", 0.946), ("eyeball_right", 0.054)):
        piece = assembly.parts[name]
        sheets.add(pieces[name], piece.uv_quads, (piece.uv - 0.5) * 0.098 + (centre, 0.054))
    for jaw, top in (("upper", 0.926), ("lower", 0.962)):
        piece = assembly.parts[f"teeth_{jaw}"]
        for left in (True, False):
            side = (piece.rest[piece.quads, 0].mean(1) > 0) == left
            along = piece.uv[:, 0]
            u = 0.985 - 0.44 * (1 - along) if left else 0.015 + 0.44 * along
            uv = np.stack([u, top + 0.03 * piece.uv[:, 1]], -1)
            sheets.add(pieces[f"teeth_{jaw}"][side], piece.quads[side], uv)
    piece = assembly.parts["tongue"]
    corners = piece.rest[piece.quads]
    upward = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])[:, 1] > 0
    is_left = piece.rest[piece.quads, 0].mean(1) > 0
    for side, start_u in ((upward, 0.536), (~upward, 0.562)):
        flat = _disc(piece.quads[side], piece.rest[:, [0, 2, 1]], None)
        flat = (flat + flat[piece.mirror] * [-1, 1]) / 2
        for half, sign in ((is_left, 1), (~is_left, -1)):
            middle = 0.5 + sign * (start_u - 0.5)
            chosen = np.where(side & half)[0]
            place = np.abs(flat) * [sign, 0] + flat * [0, 1]
            place = place * 0.021 + (middle, 0.966)
            sheets.add(pieces["tongue"][chosen], piece.quads[chosen], place)
    piece = assembly.parts["lashes"]
    by_vertex = np.zeros((len(piece.rest), 2))
    by_vertex[piece.quads] = piece.uv[piece.uv_quads]
    is_left = piece.rest[:, 0] > 0
    low, high = by_vertex[is_left].min(0), by_vertex[is_left].max(0)
    placed = (by_vertex - low) / (high - low) * (0.1, 0.043) + (0.63, 0.95)
    placed[~is_left] = placed[piece.mirror[~is_left]] * [-1, 1] + [1, 0]
    sheets.add(pieces["lashes"], piece.quads, placed)
    return sheets.finish(start)


_SKIN_WIDTH = 0.976
_SKIN_TOP = 0.01


class _Sheets:
    """Collects islands with their own texture vertices."""

    def __init__(self) -> None:
        self._uv: list[NDArray[np.float64]] = []
        self._quads: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._count = 0

    def add(
        self, index: NDArray[np.int64], quads: NDArray[np.int64], uv: NDArray[np.float64]
    ) -> None:
        """Add the quads `index`; `quads` (n, 4) are indices into `uv`; unused rows are dropped."""
        used, local = np.unique(quads, return_inverse=True)
        self._uv.append(uv[used])
        self._quads.append((index, local.reshape(-1, 4) + self._count))
        self._count += len(used)

    def finish(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return uv, and the uv quads of all `count` quads."""
        result = np.full((count, 4), -1)
        for index, quads in self._quads:
            result[index] = quads
        assert (result >= 0).all()
        return np.concatenate(self._uv), result


def _smooth(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _squeeze(
    values: NDArray[np.float64], knots: tuple[float, ...], slopes: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return an increasing function of the values, zero at zero, with the given slopes."""
    grid = np.linspace(values.min(), values.max(), 4000)
    integral = np.concatenate([[0], np.cumsum(np.interp(grid[1:], knots, slopes) * np.diff(grid))])
    return np.interp(values, grid, integral) - np.interp(0, grid, integral)


def _split(quads: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)


def _add_skin(
    sheets: _Sheets,
    points: NDArray[np.float64],
    rest: NDArray[np.float64],
    quads: NDArray[np.int64],
    part: NDArray[np.int64],
    mirror: NDArray[np.int64],
) -> None:
    """Add the left half of the outer skin, and its mirror image as the right half."""
    outside = part == 0
    left = outside & (rest[quads, 0].mean(1) > 0)
    right = outside & ~left
    middle = np.array([0.0, 0.01, -0.085])
    offset = points - middle
    elevation = np.degrees(np.arctan2(offset[:, 1], offset[:, 2]))
    front = (np.abs(rest[:, 0]) < 1e-7) & (elevation < 105) & (elevation > -100)
    lips = np.zeros(len(points), bool)
    lips[np.intersect1d(quads[part == 3], quads[outside])] = True
    used = np.unique(quads[left])
    local = np.full(len(points), -1)
    local[used] = np.arange(len(used))
    triangles = local[_split(quads[left])]
    centre = points[used][triangles].mean(1)
    offset = centre - middle
    side = np.hypot(offset[:, 0], 0.9 * np.maximum(offset[:, 1] - 0.02, 0))
    azimuth = np.degrees(np.arctan2(side, offset[:, 2]))
    density = 1 - 0.5 * _smooth(azimuth, 38, 75) - 0.28 * _smooth(azimuth, 75, 120)
    density *= 1 - 0.6 * _smooth(-centre[:, 1], 0.11, 0.16)
    importance = 1 - 0.9 * _smooth(azimuth, 40, 90) * 1.0
    importance *= 1 - 0.8 * _smooth(-centre[:, 1], 0.11, 0.16)
    half = unwrap_half(points[used], triangles, front[used], lips[used], density, importance)
    lids = np.zeros(len(points), bool)
    lids[np.intersect1d(quads[part == 1], quads[outside])] = True
    half[:, 1] -= half[lids[used], 1].mean()
    half = np.stack(
        [
            _squeeze(half[:, 0], (0, 85, 120), (1.0, 1.0, 0.62)),
            _squeeze(half[:, 1], (-150, -118, 55, 90), (0.16, 1.0, 1.0, 0.4)),
        ],
        -1,
    )
    scale = _SKIN_WIDTH / 2 / half[:, 0].max()
    uv = np.zeros((len(points), 2))
    uv[used] = np.stack(
        [0.5 + half[:, 0] * scale, _SKIN_TOP + (half[:, 1].max() - half[:, 1]) * scale], -1
    )
    mirrored = np.zeros_like(uv)
    mirrored[mirror[used]] = uv[used] * [-1, 1] + [1, 0]
    # Both halves share texture vertices on the front midline, but not along the back seam.
    both = np.concatenate([uv, mirrored])
    offset_index = np.where(front, 0, len(points))
    sheets.add(
        np.concatenate([np.where(left)[0], np.where(right)[0]]),
        np.concatenate([quads[left], quads[right] + offset_index[quads[right]]]),
        both,
    )


def _disc(
    quads: NDArray[np.int64], points: NDArray[np.float64], mirror: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return texture coordinates (V, 2) in [-1, 1], v down, of a disc-shaped piece from the front.

    With `mirror`, the piece is computed on the other side and mirrored.
    """
    if mirror is not None:
        other = _disc(mirror[quads][:, ::-1], points, None)
        return other[mirror] * [-1, 1]
    triangles = _split(quads)
    loop = np.array(border_loops(triangles)[0])
    rim = points[loop] - points[loop].mean(0)
    length = np.linalg.norm(np.roll(points[loop], -1, 0) - points[loop], axis=1)
    turn = 2 * np.pi * np.concatenate([[0], np.cumsum(length)[:-1]]) / length.sum()
    # The inside of a cavity appears mirrored through its opening; then it is rotated upright.
    turn = -turn
    first = np.arctan2(-rim[0, 1], rim[0, 0])
    if np.cos(turn[1] + first - np.arctan2(-rim[1, 1], rim[1, 0])) < 0:
        turn = -turn
    place = np.stack([np.cos(turn + first), np.sin(turn + first)], -1)
    used, local = np.unique(triangles, return_inverse=True)
    position = np.searchsorted(used, loop)
    flat = tutte_embedding(local.reshape(-1, 3), len(used), position, place)
    result = np.zeros((len(points), 2))
    result[used] = flat
    return result
