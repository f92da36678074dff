"""Occluders between face and camera: masks, hands, phones and microphones, all synthetic.

Every occluder is a small mesh in head space that is added to the person's wearables: it has depth,
is lit by the same light, casts shadows, and hides the points behind it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.data.wearables.dressing import CLOTH, GLASS, SKIN, Dressed
from lifemask.data.wearables.pictures import Levels, halved

Colour = tuple[float, float, float]
"""Linear RGB."""


@dataclass(frozen=True)
class MaskLook:
    """A mask over nose, mouth and chin."""

    colour: Colour
    """Colour of its cloth."""
    pleats: int
    """Number of folds across it; 0 is smooth cloth."""
    bulge: float
    """Distance of its middle from the face, metres."""
    top: float
    """Upper end on the nose: 0 is the nose's tip, 1 its root. Below 0 the nose is bare."""


@dataclass(frozen=True)
class HeldThing:
    """A hand, phone or microphone in front of a face."""

    kind: Literal["hand", "phone", "microphone"]
    """Kind of thing."""
    target: int
    """The dense point (of 478) that it touches."""
    contact: float
    """The part of it at the target: 0 is its near end, 1 its far end."""
    turn: float
    """Rotation in the plane in front of the face, radians; at 0 fingers point up."""
    tilt: float
    """Angle by which its near end points away from the face, radians."""
    gap: float
    """Distance between it and the face, metres."""
    scale: float
    """Factor on its size."""
    curl: tuple[float, ...]
    """Total bend of the thumb and the four fingers, radians."""
    mirrored: bool
    """Whether it is the other hand."""
    colour: Colour
    """Colour of a thing; for a hand, the factor from the neck's skin colour to the hand's."""


@dataclass(frozen=True)
class Mesh:
    """A simple mesh with a picture."""

    vertices: Float[Tensor, "V 3"]
    """Head space, metres."""
    triangles: Int[Tensor, "T 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    uv: Float[Tensor, "V 2"]
    """Coordinates in the picture."""
    colour: Float[Tensor, "V 3"]
    """Linear RGB reflectance where the luminance is 1."""
    surface: int
    """Kind of surface, as in `Dressed.surface`."""
    picture: Levels
    """Luminance and opacity at all sizes."""
    lift: float
    """Metres by which it is drawn nearer than it lies."""
    closed: bool
    """Whether its inside is never visible."""
    kind: str
    """`mask`, `hand`, `phone` or `microphone`."""


def random_mask(rng: np.random.Generator) -> MaskLook:
    """Return a random medical or cloth mask; few people wear it below the nose."""
    medical = rng.random() < 0.6
    if medical:
        colour = ((0.30, 0.52, 0.66), (0.72, 0.74, 0.75), (0.02, 0.02, 0.022))[
            rng.choice(3, p=(0.5, 0.35, 0.15))
        ]
    else:
        shade = math.exp(rng.uniform(math.log(0.015), math.log(0.6)))
        red, green, blue = (shade * math.exp(0.35 * x) for x in rng.standard_normal(3))
        colour = (min(red, 0.8), min(green, 0.8), min(blue, 0.8))
    return MaskLook(
        colour,
        pleats=int(rng.integers(2, 5)) if medical else 0,
        bulge=float(rng.uniform(0.004, 0.012)),
        top=float(rng.uniform(-0.5, -0.3) if rng.random() < 0.1 else rng.uniform(0.3, 0.8)),
    )


# Dense points of chin, mouth, cheeks, eyes, brow, temples and nose.
_HAND_TARGETS = (152, 152, 13, 13, 50, 280, 50, 280, 159, 386, 151, 54, 284, 4)
_CHEEKS = (123, 352)


def random_hand(rng: np.random.Generator) -> HeldThing:
    """Return a random hand that touches a face."""
    target = int(rng.choice(_HAND_TARGETS))
    fist = rng.random() < 0.3
    bent = rng.uniform(1.6, 3.2) if fist else rng.uniform(0.2, 1.4)
    curl = tuple(float(np.clip(bent * rng.uniform(0.7, 1.2), 0.1, 3.6)) for _ in range(5))
    return HeldThing(
        "hand",
        target,
        contact=float(rng.uniform(0.35, 0.5) if fist else rng.uniform(0.4, 0.95)),
        turn=float(np.clip(0.7 * rng.standard_normal(), -1.5, 1.5)),
        tilt=float(rng.uniform(0.1, 0.6)),
        gap=float(rng.uniform(0.0, 0.006) if rng.random() < 0.7 else rng.uniform(0.01, 0.08)),
        scale=float(rng.uniform(0.88, 1.08)),
        curl=(0.4 * curl[0], *curl[1:]),
        mirrored=bool(rng.random() < 0.5),
        colour=_factor(rng, 0.06),
    )


def random_object(rng: np.random.Generator) -> HeldThing:
    """Return a random phone at the cheek or microphone in front of the mouth."""
    phone = rng.random() < 0.5
    shade = math.exp(rng.uniform(math.log(0.008), math.log(0.4)))
    red, green, blue = (min(shade * x, 0.8) for x in _factor(rng, 0.2))
    return HeldThing(
        "phone" if phone else "microphone",
        target=int(rng.choice(_CHEEKS)) if phone else 13,
        contact=float(rng.uniform(0.4, 0.8)),
        turn=float(rng.normal(0, 0.35)),
        tilt=float(rng.uniform(0, 0.4) if phone else rng.uniform(0.2, 1.2)),
        gap=float(rng.uniform(0.004, 0.02) if phone else rng.uniform(0.01, 0.08)),
        scale=float(rng.uniform(0.85, 1.15)),
        curl=(0.0,) * 5,
        mirrored=bool(rng.random() < 0.5),
        colour=(red, green, blue),
    )


def _factor(rng: np.random.Generator, spread: float) -> Colour:
    red, green, blue = (math.exp(spread * x) for x in rng.standard_normal(3))
    return red, green, blue


_COLUMNS, _ROWS = 25, 15
_MASK_AXIS = -0.055
"""Position of the upright axis around which a mask is bent, head space z, metres."""
_MASK_ANGLE = 1.22
"""Half of the angle that a mask covers, radians."""
_LEAST_GAP = 0.007
"""Smallest distance between mask and face, metres; the mask then hides all skin under it."""


def mask_mesh(
    look: MaskLook, vertices: Float[Tensor, "V 3"], points478: Float[Tensor, "478 3"]
) -> Mesh:
    """Return a mask on a face, with straps to the ears.

    Its distance from an upright axis is the head's largest distance, smoothed, plus a few mm.

    Args:
        look: colour and form of the mask.
        vertices: of the head's skin, head space, metres.
        points478: dense points of the head, head space, metres.
    """
    tip, root = points478[4, 1], points478[168, 1]
    chin, jaw = points478[152, 1], points478[[172, 397], 1].mean()
    ear = points478[[127, 356], 1].mean()
    side = torch.linspace(-1, 1, _COLUMNS, device=vertices.device)
    away = side.abs()
    # The upper edge falls from the nose to the cheeks, the lower one rises along the jaw.
    middle_top = tip + look.top * (root - tip)
    top = middle_top + (ear - 0.022 - middle_top) * (away * 1.4).clamp(max=1) ** 0.8
    bottom = chin - 0.006 + (jaw + 0.012 - chin) * away**2.2
    down = torch.linspace(0, 1, _ROWS, device=vertices.device)[:, None]
    height = top + (bottom - top) * down

    x, y, z = vertices.unbind(-1)
    radius = torch.hypot(x, z - _MASK_AXIS)
    angle = torch.atan2(x, z - _MASK_AXIS)
    column = ((angle / _MASK_ANGLE + 1) / 2 * (_COLUMNS - 1)).round().long()
    near = (column >= 0) & (column < _COLUMNS)
    column = column.clamp(0, _COLUMNS - 1)
    row = ((y - top[column]) / (bottom - top)[column] * (_ROWS - 1)).round().long()
    near &= (row >= -1) & (row <= _ROWS)
    cell = row.clamp(0, _ROWS - 1) * _COLUMNS + column
    most = radius.new_zeros(_ROWS * _COLUMNS)
    most = most.scatter_reduce(0, cell[near], radius[near], "amax")
    widest = F.max_pool2d(most.view(1, 1, _ROWS, _COLUMNS), 3, 1, 1)
    soft = widest
    for _ in range(2):
        padded = F.pad(soft, (1, 1, 1, 1), mode="replicate")
        soft = torch.maximum(F.avg_pool2d(padded, 3, 1), most.view_as(soft))
    soft = soft[0, 0]
    arch = (1 - side**2) * (1 - (2 * down - 0.9) ** 2).clamp(min=0)
    radius = soft + _LEAST_GAP + look.bulge * arch
    # The mask's lower edge lies under the chin.
    radius = radius - 0.03 * ((down - 0.85) / 0.15).clamp(min=0) ** 2 * (1 - away**2)
    bend = side * _MASK_ANGLE
    grid = torch.stack([radius * bend.sin(), height, radius * bend.cos() + _MASK_AXIS], -1)
    straps, strap_triangles = _straps(grid, points478)
    uv = torch.stack(torch.broadcast_tensors((side + 1) / 2, down), -1).reshape(-1, 2)
    colour = vertices.new_tensor(look.colour)
    tone = colour.expand(_ROWS * _COLUMNS, 3)
    band = (0.5 * colour + 0.3).expand(len(straps), 3)
    return Mesh(
        torch.cat([grid.view(-1, 3), straps]),
        torch.cat([_grid_triangles(_ROWS, _COLUMNS), strap_triangles + _ROWS * _COLUMNS]).to(
            column.device
        ),
        torch.cat([uv, uv.new_full((len(straps), 2), 0.5)]),
        torch.cat([tone, band]),
        CLOTH,
        _pleats(look.pleats, vertices.device),
        lift=0.003,
        closed=False,
        kind="mask",
    )


def _straps(
    grid: Float[Tensor, "R C 3"], points478: Float[Tensor, "478 3"]
) -> tuple[Float[Tensor, "16 3"], Int[Tensor, "8 3"]]:
    """Return four bands from the mask's corners to behind the ears."""
    corners, pieces = [], []
    for column, ear in ((0, 127), (-1, 356)):
        outward = 1.0 if column else -1.0
        for row, rise, back in ((1, 0.022, 0.028), (-2, -0.028, 0.014)):
            start = grid[row, column]
            end = points478[ear] + start.new_tensor([0.012 * outward, rise, -back])
            half = start.new_tensor([0.0, 0.0016, 0.0])
            corners += [start + half, start - half, end + half, end - half]
            first = len(corners) - 4
            pieces += [[first, first + 1, first + 2], [first + 2, first + 1, first + 3]]
    return torch.stack(corners), torch.tensor(pieces)


def _pleats(count: int, device: torch.device) -> Levels:
    """Return the picture of cloth with folds across it."""
    size = 32
    v = (torch.arange(size, device=device) + 0.5) / size
    luminance = torch.ones_like(v)
    for k in range(count):
        place = (k + 1) / (count + 1)
        # The fold is dark, its edge bright.
        luminance -= 0.30 * torch.exp(-(((v - place) / 0.022) ** 2))
        luminance += 0.08 * torch.exp(-(((v - place + 0.05) / 0.03) ** 2))
    image = luminance[:, None].expand(size, size)
    return halved(torch.stack([image, torch.ones_like(image)]))


_KNUCKLES = ((0.026, 0.088), (0.006, 0.092), (-0.014, 0.087), (-0.033, 0.078))
_BONES = (
    (0.042, 0.025, 0.022), (0.046, 0.029, 0.023), (0.043, 0.027, 0.023), (0.034, 0.020, 0.020),
)  # fmt: skip
_THUMB = ((0.016, 0.018), (0.040, 0.045), (0.030, 0.028))
"""The thumb's start and knuckle, and the lengths of its two bones; metres."""
_SIDES = 10


def _hand(thing: HeldThing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (metres), triangles and how far each vertex is nail, 0 to 1.

    In the hand's axes, the wrist is at 0, fingers are along +y, the back of the hand is towards +z.
    """
    tubes: list[tuple[np.ndarray, np.ndarray]] = []
    for k, ((x, y), bones) in enumerate(zip(_KNUCKLES, _BONES, strict=True)):
        bend = thing.curl[k + 1]
        line, angle = [np.array([0.55 * x, 0.0, -0.002]), np.array([x, y, 0.0])], 0.0
        for bone, share in zip(bones, (0.35, 0.4, 0.25), strict=True):
            angle += bend * share
            spread = 0.25 * x / 0.03 * max(0.0, 1 - bend / 2)
            line.append(line[-1] + bone * np.array([spread, math.cos(angle), -math.sin(angle)]))
        tubes.append((np.array(line), np.array([0.0115, 0.0112, 0.0092, 0.0082, 0.0068])))
    base, knuckle = (np.array([x, y, -0.006]) for x, y in _THUMB[:2])
    line, angle = [base, knuckle], 0.0
    for bone in _THUMB[2]:
        angle += thing.curl[0] / 2
        line.append(line[-1] + bone * np.array([0.45, 0.8 * math.cos(angle), -math.sin(angle)]))
    tubes.append((np.array(line), np.array([0.015, 0.012, 0.0105, 0.0082])))
    arm = np.array([[0.0, 0.03, -0.002], [0.0, 0.0, -0.002], [0.0, -0.09, 0.0], [0.0, -0.3, 0.0]])
    tubes.append((arm, np.array([0.026, 0.024, 0.028, 0.036])))
    vertices, triangles, nails, first = [], [], [], 0
    for k, (line, radii) in enumerate(tubes):
        flat = 0.78 if k == len(tubes) - 1 else 0.92
        ring, across, nail = _tube(line, radii, flat)
        vertices.append(ring)
        triangles.append(across + first)
        nails.append(nail if k < len(tubes) - 1 else 0 * nail)
        first += len(ring)
    return np.concatenate(vertices), np.concatenate(triangles), np.concatenate(nails)


def _tube(
    line: np.ndarray, radii: np.ndarray, flat: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a tube with a round end around a line, its triangles, and the position of its nail."""
    count = 14
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    # Rings are even along the tube; three more rings form its round end.
    end = radii[-1] / length[-1]
    share = np.concatenate([np.linspace(0, 1 - end, count), 1 - end * np.array([0.5, 0.15, 0.0])])
    at = share * length[-1]
    centre = np.stack([np.interp(at, length, line[:, k]) for k in range(3)], 1)
    centre[1:-1] = (centre[:-2] + 2 * centre[1:-1] + centre[2:]) / 4
    radius = np.interp(at, length, radii)
    cap = np.clip((share - (1 - end)) / end, 0, 1)
    radius = radius * np.sqrt(1 - 0.98 * cap**2)
    along = np.gradient(centre, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True).clip(1e-9)
    side = np.array([1.0, 0, 0]) - along[:, :1] * along
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    turn = np.arange(_SIDES) * 2 * math.pi / _SIDES
    ring = side[:, None] * np.cos(turn)[:, None] + flat * up[:, None] * np.sin(turn)[:, None]
    vertices = centre[:, None] + ring * radius[:, None, None]
    rings = len(share)
    nail = ((share > 1 - 2.0 * end) & (share < 1 - 0.2 * end))[:, None] * (np.sin(turn) > 0.7)
    first = np.arange(rings - 1)[:, None] * _SIDES + np.arange(_SIDES)
    beside = np.arange(rings - 1)[:, None] * _SIDES + (np.arange(_SIDES) + 1) % _SIDES
    # Counter-clockwise seen from outside: around the ring first, then along the tube.
    triangles = np.concatenate(
        [
            np.stack([first, first + _SIDES, beside], -1).reshape(-1, 3),
            np.stack([beside, first + _SIDES, beside + _SIDES], -1).reshape(-1, 3),
        ]
    )
    return vertices.reshape(-1, 3), triangles, nail.astype(np.float64).ravel()


def _phone() -> tuple[np.ndarray, np.ndarray]:
    """Return a slab of 74 x 150 x 8 mm; its back is towards +z."""
    line = np.array([[0.0, 0.0, 0.0], [0.0, 0.150, 0.0]])
    share = np.array([0, 0.012, 0.04, 0.5, 0.96, 0.988, 1])
    width = 0.037 * np.array([0.0, 0.86, 1, 1, 1, 0.86, 0.0])
    centre = line[0] + (line[1] - line[0]) * share[:, None]
    corner = np.array([(1, -1), (1, 1), (-1, 1), (-1, -1)], float) * 1.0
    ring = np.zeros((len(share), 4, 3))
    ring[..., 0] = width[:, None] * corner[:, 0]
    ring[..., 2] = 0.004 * corner[:, 1] * (width[:, None] > 0)
    vertices = centre[:, None] + ring
    first = np.arange(len(share) - 1)[:, None] * 4 + np.arange(4)
    beside = np.arange(len(share) - 1)[:, None] * 4 + (np.arange(4) + 1) % 4
    triangles = np.concatenate(
        [
            np.stack([first, first + 4, beside], -1).reshape(-1, 3),
            np.stack([beside, first + 4, beside + 4], -1).reshape(-1, 3),
        ]
    )
    return vertices.reshape(-1, 3), triangles


def _microphone() -> tuple[np.ndarray, np.ndarray]:
    """Return a stick with a round head; its near end is at 0, the head at 0.15 m along +y."""
    line = np.array([[0, y, 0] for y in (0.0, 0.11, 0.118, 0.126, 0.142, 0.16, 0.17)])
    radii = np.array([0.012, 0.014, 0.02, 0.025, 0.028, 0.024, 0.016])
    vertices, triangles, _ = _tube(line, radii, 1.0)
    return vertices, triangles


_LENGTHS = {"hand": 0.17, "phone": 0.15, "microphone": 0.17}
_THICKNESS = {"hand": 0.012, "phone": 0.005, "microphone": 0.0}
_MIDDLE = (0.0, -0.03, -0.07)


def held_mesh(
    thing: HeldThing, points478: Float[Tensor, "478 3"], skin_colour: Float[Tensor, "3"]
) -> Mesh:
    """Return the mesh of a thing in front of a face.

    Args:
        thing: the thing and its position.
        points478: dense points of the face, head space, metres.
        skin_colour: linear RGB reflectance of the person's neck.
    """
    nail = np.zeros(0)
    if thing.kind == "hand":
        shape, triangles, nail = _hand(thing)
    else:
        shape, triangles = _phone() if thing.kind == "phone" else _microphone()
    shape = shape * thing.scale
    if thing.mirrored:
        shape, triangles = shape * np.array([-1.0, 1, 1]), triangles[:, ::-1]
    contact = np.array(
        [0, thing.contact * _LENGTHS[thing.kind] * thing.scale, -_THICKNESS[thing.kind]]
    )
    target = points478[thing.target].cpu().double().numpy()
    outward = target - np.array(_MIDDLE)
    outward /= np.linalg.norm(outward)
    # A microphone points at the mouth from below; other things are parallel to the face.
    upward = np.array([math.sin(thing.turn), math.cos(thing.turn), 0.0])
    upward -= (upward @ outward) * outward
    upward /= np.linalg.norm(upward)
    along = math.cos(thing.tilt) * upward - math.sin(thing.tilt) * outward
    back = math.cos(thing.tilt) * outward + math.sin(thing.tilt) * upward
    axes = np.stack([np.cross(along, back), along, back])
    place = (shape - contact) @ axes + target + outward * thing.gap
    vertices = torch.from_numpy(place).to(points478)
    colour = vertices.new_tensor(thing.colour)
    tone = colour.expand(len(vertices), 3)
    if thing.kind == "hand":
        share = torch.from_numpy(nail).to(vertices)[:, None]
        own = (skin_colour * colour).clamp(max=0.85)
        tone = own * (1 - share) + (0.6 * own + 0.2 * own.new_tensor([0.9, 0.62, 0.55])) * share
    surface = {"hand": SKIN, "phone": GLASS, "microphone": CLOTH}[thing.kind]
    return Mesh(
        vertices,
        torch.from_numpy(np.ascontiguousarray(triangles)).to(vertices.device),
        vertices.new_full((len(vertices), 2), 0.5),
        tone,
        surface,
        halved(vertices.new_ones(2, 1, 1)),
        # Parts that would lie inside the face are drawn on it.
        lift=0.02,
        closed=True,
        kind=thing.kind,
    )


def with_occluders(dressed: Dressed, meshes: Sequence[Mesh]) -> Dressed:
    """Return the wearables with occluders added."""
    for mesh in meshes:
        count = len(mesh.vertices)
        like, each = mesh.vertices.new_ones(count), mesh.vertices.new_ones(len(mesh.triangles))
        specular = 0.35 if mesh.surface == GLASS else 0.0
        dressed = replace(
            dressed,
            vertices=torch.cat([dressed.vertices, mesh.vertices]),
            triangles=torch.cat([dressed.triangles, mesh.triangles + len(dressed.vertices)]),
            uv=torch.cat([dressed.uv, mesh.uv]),
            picture=torch.cat([dressed.picture, each.long() * len(dressed.pictures)]),
            pictures=(*dressed.pictures, mesh.picture),
            colour=torch.cat([dressed.colour, mesh.colour]),
            opacity=torch.cat([dressed.opacity, like]),
            ambient_visibility=torch.cat([dressed.ambient_visibility, 0.9 * like]),
            surface=torch.cat([dressed.surface, like.long() * mesh.surface]),
            specular=torch.cat([dressed.specular, like * specular]),
            lift=torch.cat([dressed.lift, each * mesh.lift]),
            one_sided=torch.cat([dressed.one_sided, each.bool() & mesh.closed]),
            casts=torch.cat([dressed.casts, each.bool()]),
            kind=(*dressed.kind, mesh.kind),
        )
    return dressed


def _grid_triangles(rows: int, columns: int) -> Int[Tensor, "T 3"]:
    """Return triangles of a grid, seen from +z; its rows go down and its columns to +x."""
    corner = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).view(-1)
    right, below = corner + 1, corner + columns
    return torch.cat(
        [torch.stack([corner, below, right], -1), torch.stack([right, below, below + 1], -1)]
    )
