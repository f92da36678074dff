"""Registration of a morphable model to a mesh or point cloud: landmarks first, then every point.

Gauss-Newton over pose, scale and identity. Each target point is tied to the closest point of the
model's surface, mostly along the surface normal (Chen and Medioni, "Object modelling by
registration of multiple range images", 1992); landmarks keep lips and eyelids from sliding while
the closest-point error falls. Plain numpy in float64: this runs when models and scans are
prepared or graded, not when a photo is fitted.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from lifemask.geometry.alignment import align_points
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector

Array = np.ndarray


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a triangle mesh, each with the distance to the query it answers."""

    triangle_index: Int[Array, "N"]
    """Triangle that holds the point."""
    barycentric: Float[Array, "N 3"]
    """Weights of that triangle's corners; they sum to one."""
    position: Float[Array, "N 3"]
    """The point itself, in the unit of the mesh."""
    distance: Float[Array, "N"]
    """Distance to the query point."""


class TriangleSurface:
    """A fixed triangle topology that answers closest-point queries for any vertex positions.

    Candidates are the triangles around the `neighbours` vertices nearest to the query, each tested
    exactly. This is the true closest point unless a triangle is much longer than its neighbours.
    """

    def __init__(
        self, triangles: Int[Array, "T 3"], vertex_count: int, *, neighbours: int = 6
    ) -> None:
        self.triangles = np.asarray(triangles, dtype=np.int64)
        self.neighbours = neighbours
        corner_vertex = self.triangles.reshape(-1)
        order = np.argsort(corner_vertex, kind="stable")
        counts = np.bincount(corner_vertex, minlength=vertex_count)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.used_vertices = np.flatnonzero(counts)
        width = int(counts.max())
        slot = starts[:-1, None] + np.arange(width)
        inside = np.arange(width) < counts[:, None]
        owner = order[np.minimum(slot, len(order) - 1)] // 3
        # Padding repeats the vertex's first triangle: a repeated candidate changes nothing.
        first = owner[:, :1]
        self.vertex_triangles = np.where(inside, owner, first)

    def candidates(
        self, vertices: Float[Array, "V 3"], queries: Float[Array, "N 3"]
    ) -> Int[Array, "N C"]:
        """Return the triangles around the vertices nearest to every query; some may repeat."""
        tree = KDTree(vertices[self.used_vertices])
        count = min(self.neighbours, len(self.used_vertices))
        _, nearest = tree.query(queries, k=count)
        nearest = self.used_vertices[np.asarray(nearest).reshape(len(queries), count)]
        return self.vertex_triangles[nearest].reshape(len(queries), -1)

    def closest(self, vertices: Float[Array, "V 3"], queries: Float[Array, "N 3"]) -> SurfacePoints:
        """Return the closest surface point to every query."""
        candidates = self.candidates(vertices, queries)
        corners = vertices[self.triangles[candidates]]
        barycentric = closest_barycentric(
            queries[:, None], corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
        )
        position = (barycentric[..., None] * corners).sum(-2)
        distance = np.linalg.norm(position - queries[:, None], axis=-1)
        best = distance.argmin(1)
        row = np.arange(len(queries))
        return SurfacePoints(
            triangle_index=candidates[row, best],
            barycentric=barycentric[row, best],
            position=position[row, best],
            distance=distance[row, best],
        )


def closest_barycentric(
    point: Float[Array, "*#batch D"],
    a: Float[Array, "*#batch D"],
    b: Float[Array, "*#batch D"],
    c: Float[Array, "*#batch D"],
) -> Float[Array, "*broadcast 3"]:
    """Return barycentric weights of the closest point in triangle abc (Ericson, 2005, 5.1.5).

    Works in any number of dimensions.
    """
    ab, ac = b - a, c - a
    d1, d2 = _dot(ab, point - a), _dot(ac, point - a)
    d3, d4 = _dot(ab, point - b), _dot(ac, point - b)
    d5, d6 = _dot(ab, point - c), _dot(ac, point - c)
    area_a, area_b, area_c = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = area_a + area_b + area_c
    safe = np.where(np.abs(total) < 1e-300, 1.0, total)
    v, w = area_b / safe, area_c / safe
    zero, one = np.zeros_like(v), np.ones_like(v)
    result = np.stack([1 - v - w, v, w], axis=-1)

    def ratio(numerator: Array, denominator: Array) -> Array:
        return np.clip(numerator / np.where(denominator == 0, 1.0, denominator), 0, 1)

    along_bc = ratio(d4 - d3, (d4 - d3) + (d5 - d6))
    along_ac = ratio(d2, d2 - d6)
    along_ab = ratio(d1, d1 - d3)
    # Edges first, corners last: a corner region also satisfies the tests of its two edges.
    regions = (
        ((area_a <= 0) & (d4 >= d3) & (d5 >= d6), (zero, 1 - along_bc, along_bc)),
        ((area_b <= 0) & (d2 >= 0) & (d6 <= 0), (1 - along_ac, zero, along_ac)),
        ((area_c <= 0) & (d1 >= 0) & (d3 <= 0), (1 - along_ab, along_ab, zero)),
        ((d6 >= 0) & (d5 <= d6), (zero, zero, one)),
        ((d3 >= 0) & (d4 <= d3), (zero, one, zero)),
        ((d1 <= 0) & (d2 <= 0), (one, zero, zero)),
    )
    for inside, weights in regions:
        result = np.where(inside[..., None], np.stack(weights, axis=-1), result)
    return result


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1)


@dataclass(frozen=True)
class LinearShape:
    """A mean shape and its modes: what registration needs of a morphable model."""

    mean: Float[Array, "V 3"]
    """Mean vertices in metres."""
    basis: Float[Array, "I V 3"]
    """Identity modes in metres per standard deviation."""
    triangles: Int[Array, "T 3"]
    """Triangles that may hold correspondences; leave out mouth bag, eyeballs and teeth."""

    def vertices(self, coefficients: Float[Array, "K"]) -> Float[Array, "V 3"]:
        """Return the vertices of the first K modes' coefficients, metres."""
        modes = self.basis[: len(coefficients)]
        return self.mean + np.tensordot(coefficients, modes, axes=1)

    def truncated(self, modes: int) -> "LinearShape":
        """Return the same shape with its first `modes` modes."""
        return replace(self, basis=self.basis[:modes])


@dataclass(frozen=True)
class LandmarkPairs:
    """Points of the model that belong at known places of the target."""

    triangle_index: Int[Array, "N"]
    """Triangle of the model that holds each landmark, an index into `all_triangles`."""
    barycentric: Float[Array, "N 3"]
    """Weights of that triangle's corners."""
    target: Float[Array, "N 3"]
    """Where the landmark is on the target, metres."""
    weight: Float[Array, "N"]
    """Trust in each pair, 0 to 1."""
    all_triangles: Int[Array, "T 3"]
    """The triangles that `triangle_index` counts in."""


@dataclass(frozen=True)
class RegistrationConfig:
    """How to register a morphable model to points."""

    iterations: int = 20
    """Gauss-Newton steps."""
    prior: float = 2.0
    """Cost of one squared standard deviation, in square millimetres summed over 5,000 points."""
    landmark_weight: float = 4.0
    """Weight of a landmark's squared millimetre against that of one of 5,000 points."""
    plane_share: float = 0.9
    """Share of the point cost that counts only the distance along the surface normal, 0 to 1."""
    point_scale_metres: float = 0.004
    """Distance where a point starts to be treated as an outlier."""
    landmark_scale_metres: float = 0.004
    """The same for landmarks."""
    free_scale: bool = True
    """Whether the target's size is unknown; the scale multiplies the model."""


@dataclass(frozen=True)
class Registration:
    """The model in the place and shape of the target: target = scale * rotation @ x + translation."""

    scale: float
    """Size of the target over that of the model."""
    rotation: Float[Array, "3 3"]
    """From model axes to target axes."""
    translation: Float[Array, "3"]
    """In metres of the target."""
    coefficients: Float[Array, "I"]
    """Identity, in standard deviations."""
    vertices: Float[Array, "V 3"]
    """The model's vertices in the target's axes, metres."""
    surface: SurfacePoints
    """The model's surface point closest to every target point."""

    def surface_error(self, weights: Float[Array, "N"]) -> float:
        """Return the weighted mean distance of target points to the model's surface, metres."""
        return float(np.average(self.surface.distance, weights=weights))


def register(
    shape: LinearShape,
    points: Float[Array, "N 3"],
    weights: Float[Array, "N"],
    *,
    landmarks: LandmarkPairs | None = None,
    normals: Float[Array, "N 3"] | None = None,
    start: tuple[float, Float[Array, "3 3"], Float[Array, "3"]] | None = None,
    surface: TriangleSurface | None = None,
    config: RegistrationConfig | None = None,
) -> Registration:
    """Return the pose, scale and identity that bring the model onto the points.

    Args:
        shape: the model; all its modes are used.
        points: target points in metres.
        weights: area or trust of each point; only ratios matter.
        landmarks: pairs that guide the fit. Without them `start` is required.
        normals: unit normals of the target; a pair counts less the more its normals disagree, and
            not at all beyond a right angle. Keeps the two sides of lips, lids and ears apart.
        start: scale, rotation and translation to begin from; default: aligns the landmarks.
        surface: the model's topology, when many targets share it.
        config: weights and iterations.

    Raises:
        ValueError: with neither landmarks nor a start, or fewer than four landmarks to start from.
    """
    config = config or RegistrationConfig()
    if start is None:
        if landmarks is None or len(landmarks.target) < 4:
            raise ValueError(
                "Registration needs a place to begin: give at least four landmark pairs, or start="
                "(scale, rotation, translation)."
            )
        own = landmark_positions(shape.mean, landmarks)
        start = align(own, landmarks.target, landmarks.weight, with_scale=config.free_scale)
    surface = surface or TriangleSurface(shape.triangles, len(shape.mean))
    scale, rotation, translation = start
    coefficients = np.zeros(len(shape.basis))
    weights = weights / weights.mean()
    solver = _Solver(shape, surface, points, weights, normals, landmarks, config)
    for _ in range(config.iterations):
        step = solver.step(scale, rotation, translation, coefficients)
        modes = len(coefficients)
        coefficients = coefficients + step[:modes]
        rotation = _rotation(step[modes : modes + 3]) @ rotation
        translation = translation + step[modes + 3 : modes + 6]
        if config.free_scale:
            scale = scale + float(step[modes + 6])
    vertices = scale * shape.vertices(coefficients) @ rotation.T + translation
    return Registration(
        scale=float(scale),
        rotation=rotation,
        translation=translation,
        coefficients=coefficients,
        vertices=vertices,
        surface=surface.closest(vertices, points),
    )


class _Solver:
    """Normal equations of one Gauss-Newton step, in millimetres."""

    def __init__(
        self,
        shape: LinearShape,
        surface: TriangleSurface,
        points: Array,
        weights: Array,
        normals: Array | None,
        landmarks: LandmarkPairs | None,
        config: RegistrationConfig,
    ) -> None:
        self.shape, self.surface, self.points = shape, surface, points
        self.normals, self.weights = normals, weights
        self.landmarks, self.config = landmarks, config
        self.modes = len(shape.basis)
        # (V, 3, I): gathering a triangle's corners then reads contiguous memory.
        self.vertex_modes = np.ascontiguousarray(np.moveaxis(shape.basis, 0, 2))

    def step(self, scale: float, rotation: Array, translation: Array, coefficients: Array) -> Array:
        shape, config = self.shape, self.config
        vertices = scale * shape.vertices(coefficients) @ rotation.T + translation
        found = self.surface.closest(vertices, self.points)
        corners = self.surface.triangles[found.triangle_index]
        a, b, c = (vertices[corners[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-30
        jacobian = self._jacobian(
            corners, found.barycentric, found.position, translation, scale, rotation
        )
        residual = (self.points - found.position) * 1e3
        trust = self.weights / (1 + (found.distance / config.point_scale_metres) ** 2)

        if self.normals is not None:
            trust = trust * np.clip(_dot(normal, self.normals), 0, 1)
        along = np.einsum("nd,ndk->nk", normal, jacobian)
        share = config.plane_share
        matrix = share * (along * trust[:, None]).T @ along
        vector = share * (along * trust[:, None]).T @ _dot(normal, residual)
        flat = jacobian.reshape(-1, jacobian.shape[2])
        row_weight = np.repeat(trust * (1 - share), 3)[:, None]
        matrix += (flat * row_weight).T @ flat
        vector += (flat * row_weight).T @ residual.reshape(-1)

        size = len(self.points) / 5000
        if self.landmarks is not None and config.landmark_weight > 0:
            pairs = self.landmarks
            own_corners = pairs.all_triangles[pairs.triangle_index]
            own = (pairs.barycentric[..., None] * vertices[own_corners]).sum(1)
            jacobian = self._jacobian(
                own_corners, pairs.barycentric, own, translation, scale, rotation
            )
            residual = (pairs.target - own) * 1e3
            distance = np.linalg.norm(pairs.target - own, axis=1)
            trust = pairs.weight * config.landmark_weight * size
            trust = trust / (1 + (distance / config.landmark_scale_metres) ** 2)
            flat = jacobian.reshape(-1, jacobian.shape[2])
            row_weight = np.repeat(trust, 3)[:, None]
            matrix += (flat * row_weight).T @ flat
            vector += (flat * row_weight).T @ residual.reshape(-1)

        damping = np.full(len(vector), 1e-9)
        damping[: self.modes] += config.prior * size
        matrix[np.diag_indices(len(vector))] += damping
        vector[: self.modes] -= config.prior * size * coefficients
        return np.linalg.solve(matrix, vector)

    def _jacobian(
        self,
        corners: Array,
        barycentric: Array,
        position: Array,
        translation: Array,
        scale: float,
        rotation: Array,
    ) -> Array:
        """Return d position / d (coefficients, rotation, translation, scale), (N, 3, P), in mm."""
        count = len(corners)
        modes = np.einsum("nc,ncdk->ndk", barycentric, self.vertex_modes[corners])
        modes = scale * np.einsum("ij,njk->nik", rotation, modes)
        offset = position - translation
        turn = -_cross_matrices(offset)
        move = np.broadcast_to(np.eye(3), (count, 3, 3))
        parts = [modes, turn, move]
        if self.config.free_scale:
            parts.append(offset[:, :, None] / scale)
        return np.concatenate(parts, axis=2) * 1e3


def landmark_positions(
    vertices: Float[Array, "V 3"], landmarks: LandmarkPairs
) -> Float[Array, "N 3"]:
    """Return the model's own landmark points for these vertices."""
    corners = vertices[landmarks.all_triangles[landmarks.triangle_index]]
    return (landmarks.barycentric[..., None] * corners).sum(1)


def align(
    source: Float[Array, "N 3"],
    target: Float[Array, "N 3"],
    weights: Float[Array, "N"] | None = None,
    *,
    with_scale: bool = False,
) -> tuple[float, Float[Array, "3 3"], Float[Array, "3"]]:
    """Return scale, rotation and translation that best move source onto target, as numpy."""
    trust = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
    scale, rotation, translation = align_points(
        torch.as_tensor(source, dtype=torch.float64),
        torch.as_tensor(target, dtype=torch.float64),
        trust,
        with_scale=with_scale,
    )
    return float(scale), rotation.numpy(), translation.numpy()


def _rotation(vector: Array) -> Array:
    return matrix_from_rotation_vector(torch.from_numpy(np.ascontiguousarray(vector))).numpy()


def _cross_matrices(vectors: Array) -> Array:
    return cross_product_matrix(torch.from_numpy(vectors)).numpy()


def vertex_areas(vertices: Float[Array, "V 3"], triangles: Int[Array, "T 3"]) -> Float[Array, "V"]:
    """Return a third of the area around every vertex, square metres: its weight in an average."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    result = np.zeros(len(vertices))
    for k in range(3):
        np.add.at(result, triangles[:, k], area)
    return result


@dataclass(frozen=True)
class DenseFit:
    """A model fitted to points whose partners on the model are known."""

    coefficients: Float[Array, "I"]
    """Identity, in standard deviations."""
    distance: Float[Array, "N"]
    """Distance of every point to its partner, metres."""


class DenseFitter:
    """Fits identities to targets in full correspondence; the normal matrix is factored once."""

    def __init__(
        self,
        mean: Float[Array, "N 3"],
        basis: Float[Array, "I N 3"],
        weights: Float[Array, "N"],
        *,
        prior: float = 1.0,
    ) -> None:
        """Take the partner points of the targets.

        Args:
            mean: partner points on the mean face, metres.
            basis: how they move, metres per standard deviation.
            weights: area of each point.
            prior: cost of one squared standard deviation in square millimetres, points of weight 1.
        """
        self.mean, self.weights, self.count = mean, weights / weights.mean(), len(basis)
        self.basis = basis.reshape(len(basis), 3 * len(mean))
        columns = np.concatenate([self.basis, rigid_motions(mean).reshape(6, -1)])
        self.weighted = columns * np.repeat(self.weights, 3) * 1e6
        matrix = self.weighted @ columns.T
        matrix[np.arange(self.count), np.arange(self.count)] += prior
        self.inverse = np.linalg.inv(matrix)

    def fit(self, points: Float[Array, "N 3"], *, iterations: int = 4) -> DenseFit:
        """Return the best rigid pose and identity; scale stays one."""
        _, rotation, translation = align(self.mean, points, self.weights)
        coefficients = np.zeros(self.count)
        for _ in range(iterations):
            wanted = (points - translation) @ rotation - self.mean
            # Pose and identity together: taken in turns, they creep along valleys they share.
            solution = self.inverse @ (self.weighted @ wanted.reshape(-1))
            coefficients, twist = solution[: self.count], solution[self.count :]
            translation = translation + rotation @ twist[3:]
            rotation = rotation @ _rotation(twist[:3])
        shape = self.mean + (coefficients @ self.basis).reshape(-1, 3)
        _, rotation, translation = align(shape, points, self.weights)
        distance = np.linalg.norm(shape @ rotation.T + translation - points, axis=1)
        return DenseFit(coefficients, distance)


def rigid_motions(points: Float[Array, "N 3"]) -> Float[Array, "6 N 3"]:
    """Return displacements per radian about the three axes, then per metre along them."""
    axes = np.eye(3)
    turns = [np.cross(axis, points) for axis in axes]
    return np.stack([*turns, *(np.broadcast_to(axis, points.shape) for axis in axes)])
