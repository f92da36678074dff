"""One level of Catmull-Clark subdivision as a sparse matrix, so that any basis can be carried through.

Catmull and Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Subdivision:
    """What one level of subdivision does to a quad mesh of V vertices, E edges and Q quads."""

    matrix: Float[Tensor, "L V"]
    """Sparse (COO, coalesced); new vertices = matrix @ old ones; L = V + E + Q."""
    quads: Int[Tensor, "R 4"]
    """The R = 4 Q new quads: (corner, edge point, face point, edge point), order of the old quads."""

    def apply(self, values: Float[Tensor, "*batch V C"]) -> Float[Tensor, "*batch L C"]:
        """Return positions, displacements or any other vertex attribute on the finer mesh."""
        *batch, count, channels = values.shape
        columns = values.reshape(-1, count, channels).transpose(0, 1).reshape(count, -1)
        fine = torch.sparse.mm(self.matrix.to(values.dtype), columns)
        fine = fine.reshape(len(fine), -1, channels).transpose(0, 1)
        return fine.reshape(*batch, -1, channels)


def catmull_clark(quads: Int[Tensor, "Q 4"], vertex_count: int) -> Subdivision:
    """Return one Catmull-Clark step; open borders become cubic B-splines.

    New vertices: the old ones in place, then one per edge (edges sorted by their lower, then their
    higher vertex), then one per quad. Vertices of no quad stay where they are.
    """
    quad_count = len(quads)
    corner = quads
    following = quads.roll(-1, 1)
    pairs = torch.stack([torch.minimum(corner, following), torch.maximum(corner, following)], -1)
    keys = (pairs[..., 0] * vertex_count + pairs[..., 1]).reshape(-1)
    unique, edge_of_corner, uses = torch.unique(keys, return_inverse=True, return_counts=True)
    edges = torch.stack([unique // vertex_count, unique % vertex_count], -1)
    edge_count = len(edges)
    edge_of_corner = edge_of_corner.reshape(quad_count, 4)
    border_edge = uses == 1

    rows: list[Tensor] = []
    columns: list[Tensor] = []
    weights: list[Tensor] = []

    def add(row: Tensor, column: Tensor, weight: Tensor | float) -> None:
        row, column = torch.broadcast_tensors(row, column)
        rows.append(row.reshape(-1))
        columns.append(column.reshape(-1))
        weights.append(torch.as_tensor(weight, dtype=torch.float64).expand(row.shape).reshape(-1))

    face_point = vertex_count + edge_count + torch.arange(quad_count)
    add(face_point[:, None], quads, 0.25)

    edge_point = vertex_count + torch.arange(edge_count)
    end_weight = torch.where(border_edge, 0.5, 0.25).double()
    add(edge_point[:, None], edges, end_weight[:, None])
    quad_weight = torch.where(border_edge, 0.0, 1 / 16).double()[edge_of_corner]
    add(
        (vertex_count + edge_of_corner)[:, :, None],
        quads[:, None, :].expand(-1, 4, -1),
        quad_weight[:, :, None].expand(-1, -1, 4),
    )

    ones = torch.ones(quad_count * 4, dtype=torch.float64)
    valence = torch.zeros(vertex_count, dtype=torch.float64).index_add(0, quads.reshape(-1), ones)
    border_ends = edges[border_edge]
    border_valence = torch.zeros(vertex_count, dtype=torch.float64).index_add(
        0, border_ends.reshape(-1), torch.ones(border_ends.numel(), dtype=torch.float64)
    )
    inner = (border_valence == 0) & (valence > 0)
    curve = border_valence == 2
    n = valence.clamp(min=1)
    everyone = torch.arange(vertex_count)
    own = torch.where(inner, (n - 3) / n, torch.where(curve, 0.75, 1.0).double())
    add(everyone, everyone, own)
    ring = torch.where(inner, 1 / (n * n), 0.0)
    add(quads[:, :, None], quads[:, None, :].expand(-1, 4, -1), ring[quads][:, :, None] / 4)
    for here, there in ((0, 1), (1, 0)):
        at = edges[:, here]
        add(at, at, ring[at])
        add(at, edges[:, there], ring[at])
        at = border_ends[:, here]
        add(at, border_ends[:, there], torch.where(curve, 0.125, 0.0).double()[at])

    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    values = torch.cat(weights)
    used = values != 0
    size = (vertex_count + edge_count + quad_count, vertex_count)
    triplets = (indices[:, used], values[used].float(), size)
    # Said aloud, or torch 2.11 warns that it was not.
    with torch.sparse.check_sparse_tensor_invariants():
        matrix = torch.sparse_coo_tensor(*triplets).coalesce()

    after = vertex_count + edge_of_corner
    before = after.roll(1, 1)
    centre = face_point[:, None].expand(-1, 4)
    return Subdivision(matrix, torch.stack([corner, after, centre, before], -1).reshape(-1, 4))
