"""Lashes on lids: each column of a strip of lashes grows from one vertex of the lid's rim."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_STRIPS = 4
"""Upper and lower lashes of two eyes."""


def lash_roots(
    mean: Float[Tensor, "V 3"],
    quads: Int[Tensor, "Q 4"],
    lashes: Int[Tensor, "H"],
    lids: Int[Tensor, "2 L"],
    margin: Int[Tensor, "2 M"],
) -> tuple[Int[Tensor, "H"], Int[Tensor, "H"]]:
    """Return for each lash vertex the root of its column, and the lid vertex from which that grows.

    Args:
        mean: vertices of the mean head.
        quads: of the whole head; those of lashes form strips, which are grids.
        lashes: the lash vertices, in one range.
        lids: skin vertices around each eye.
        margin: vertices along the border of each eye's opening.

    Raises:
        ValueError: the lashes are no grids.
    """
    start, count = int(lashes[0]), len(lashes)
    strips = quads[(quads >= start).all(-1) & (quads < start + count).all(-1)] - start
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for quad in strips.tolist():
        for one, other in zip(quad, quad[1:] + quad[:1], strict=True):
            neighbours[one].add(other)
            neighbours[other].add(one)
    to_opening = torch.cdist(mean[lashes], mean[margin.flatten()]).amin(-1)
    root = torch.full((count,), -1)
    todo = set(range(count))
    found = 0
    while todo:
        strip = _connected(min(todo), neighbours)
        todo -= strip
        found += 1
        row = min(_long_sides(strip, neighbours), key=lambda side: float(to_opening[side].mean()))
        for first in row:
            root[first] = first
        while row:
            after = [(n, one) for one in row for n in neighbours[one] if root[n] < 0]
            for vertex, one in after:
                root[vertex] = root[one]
            row = [vertex for vertex, _ in after]
    if found != _STRIPS:
        raise ValueError(f"The head has {found} strips of lashes; {_STRIPS} are expected.")
    rim = lids.flatten()
    nearest = torch.cdist(mean[lashes], mean[rim]).argmin(-1)
    return lashes[root], rim[nearest[root]]


def _connected(first: int, neighbours: list[set[int]]) -> set[int]:
    found, new = {first}, {first}
    while new:
        new = {n for one in new for n in neighbours[one]} - found
        found |= new
    return found


def _long_sides(strip: set[int], neighbours: list[set[int]]) -> list[list[int]]:
    """Return the two longest sides of a grid, corners included."""
    corners = [v for v in strip if len(neighbours[v]) == 2]
    border = {v for v in strip if len(neighbours[v]) < 4}
    if len(corners) != 4:
        raise ValueError(f"A strip of lashes has {len(corners)} corners; a grid has 4.")
    sides: dict[frozenset[int], list[int]] = {}
    for corner in corners:
        for step in neighbours[corner]:
            side = [corner, step]
            while side[-1] not in corners:
                side.append(next(n for n in neighbours[side[-1]] & border if n != side[-2]))
            sides[frozenset((corner, side[-1]))] = side
    return sorted(sides.values(), key=len)[-2:]
