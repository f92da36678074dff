"""One level of Catmull-Clark subdivision, as a sparse matrix that applies to any basis.

Catmull and Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Subdivision:
    """One level of subdivision of a quad mesh with V vertices, E edges and Q quads."""

    matrix: Float[Tensor, "L V"]
    """Sparse (COO, coalesced); new vertices = matrix @ old ones; L = V + E + Q."""
    quads: Int[Tensor, "R 4"]
    """The R = 4 Q new quads (corner, edge point, face point, edge point), in order of the old ones."""

    def apply(self, values: Float[Tensor, "*batch V C"]) -> Float[Tensor, "*batch L C"]:
        """Return positions, displacements or any other vertex attribute on the finer mesh."""
        *batch, count, channels = values.shape
        columns = values.reshape(-1, count, channels).transpose(0, 1).reshape(count, -1)
        fine = torch.sparse.mm(self.matrix.to(values.dtype), columns)
        fine = fine.reshape(len(fine), -1, channels).transpose(0, 1)
        return fine.reshape(*batch, -1, channels)


def catmull_clark(quads: Int[Tensor, "Q 4"], vertex_count: int) -> Subdivision:
    """Return one Catmull-Clark step; open borders become cubic B-splines.

    The order of the new vertices: the moved old ones, one per edge (edges sorted by their lower, then
    their higher vertex), one per quad. Vertices of no quad do not move.
    """
    edges = _edges_of(quads, vertex_count)
    entries = _Entries([], [], [])
    face_point = vertex_count + len(edges.ends) + torch.arange(len(quads))
    entries.add(face_point[:, None], quads, 0.25)
    _add_edge_points(entries, quads, edges, vertex_count)
    _add_vertex_points(entries, quads, edges, vertex_count)
    matrix = entries.matrix((vertex_count + len(edges.ends) + len(quads), vertex_count))
    after = vertex_count + edges.of_corner
    before = after.roll(1, 1)
    centre = face_point[:, None].expand(-1, 4)
    return Subdivision(matrix, torch.stack([quads, after, centre, before], -1).reshape(-1, 4))


@dataclass(frozen=True)
class _Edges:
    """The edges of a quad mesh, sorted by their lower, then their higher vertex."""

    ends: Int[Tensor, "E 2"]
    """Lower and higher vertex."""
    of_corner: Int[Tensor, "Q 4"]
    """The edge from each corner of a quad to the next corner."""
    is_border: Bool[Tensor, "E"]
    """True for edges of one quad only."""


def _edges_of(quads: Int[Tensor, "Q 4"], vertex_count: int) -> _Edges:
    following = quads.roll(-1, 1)
    lower, higher = torch.minimum(quads, following), torch.maximum(quads, following)
    keys = (lower * vertex_count + higher).reshape(-1)
    unique, of_corner, uses = torch.unique(keys, return_inverse=True, return_counts=True)
    ends = torch.stack([unique // vertex_count, unique % vertex_count], -1)
    return _Edges(ends, of_corner.reshape(len(quads), 4), uses == 1)


@dataclass(frozen=True)
class _Entries:
    """Collected entries of a sparse matrix; those with the same row and column are summed."""

    rows: list[Tensor]
    columns: list[Tensor]
    weights: list[Tensor]

    def add(self, row: Tensor, column: Tensor, weight: Tensor | float) -> None:
        """Add entries; the three arguments are broadcast against each other."""
        row, column = torch.broadcast_tensors(row, column)
        weight = torch.as_tensor(weight, dtype=torch.float64).expand(row.shape)
        self.rows.append(row.reshape(-1))
        self.columns.append(column.reshape(-1))
        self.weights.append(weight.reshape(-1))

    def matrix(self, size: tuple[int, int]) -> Float[Tensor, "L V"]:
        """Return the matrix: sparse, coalesced, in single precision."""
        indices = torch.stack([torch.cat(self.rows), torch.cat(self.columns)])
        values = torch.cat(self.weights)
        used = values != 0
        triplets = (indices[:, used], values[used].float(), size)
        # Torch 2.11 warns unless the check is switched on or off explicitly.
        with torch.sparse.check_sparse_tensor_invariants():
            return torch.sparse_coo_tensor(*triplets).coalesce()


def _add_edge_points(
    entries: _Entries, quads: Int[Tensor, "Q 4"], edges: _Edges, vertex_count: int
) -> None:
    """Add the mean of both ends and both face points of each edge; on a border, of both ends."""
    edge_point = vertex_count + torch.arange(len(edges.ends))
    end_weight = torch.where(edges.is_border, 0.5, 0.25).double()
    entries.add(edge_point[:, None], edges.ends, end_weight[:, None])
    quad_weight = torch.where(edges.is_border, 0.0, 1 / 16).double()[edges.of_corner]
    entries.add(
        (vertex_count + edges.of_corner)[:, :, None],
        quads[:, None, :].expand(-1, 4, -1),
        quad_weight[:, :, None].expand(-1, -1, 4),
    )


def _add_vertex_points(
    entries: _Entries, quads: Int[Tensor, "Q 4"], edges: _Edges, vertex_count: int
) -> None:
    """Add the paper's (Q + 2 R + (n - 3) S) / n; on a border the cubic B-spline's 1/8, 3/4, 1/8."""
    ones = torch.ones(quads.numel(), dtype=torch.float64)
    valence = torch.zeros(vertex_count, dtype=torch.float64).index_add(0, quads.reshape(-1), ones)
    border_ends = edges.ends[edges.is_border]
    border_valence = torch.zeros(vertex_count, dtype=torch.float64).index_add(
        0, border_ends.reshape(-1), torch.ones(border_ends.numel(), dtype=torch.float64)
    )
    inner = (border_valence == 0) & (valence > 0)
    on_border = border_valence == 2
    n = valence.clamp(min=1)
    everyone = torch.arange(vertex_count)
    own = torch.where(inner, (n - 3) / n, torch.where(on_border, 0.75, 1.0).double())
    entries.add(everyone, everyone, own)
    ring = torch.where(inner, 1 / (n * n), 0.0)
    entries.add(quads[:, :, None], quads[:, None, :].expand(-1, 4, -1), ring[quads][:, :, None] / 4)
    for here, there in ((0, 1), (1, 0)):
        at = edges.ends[:, here]
        entries.add(at, at, ring[at])
        entries.add(at, edges.ends[:, there], ring[at])
        at = border_ends[:, here]
        entries.add(at, border_ends[:, there], torch.where(on_border, 0.125, 0.0).double()[at])
