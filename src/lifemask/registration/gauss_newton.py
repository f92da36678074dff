"""Registration of a morphable model to a mesh or point cloud: landmarks first, then every point.

Gauss-Newton steps over pose, scale and identity reduce the distance of each target point to the
closest point of the model's surface, mostly along the surface normal (Chen and Medioni, "Object
modelling by registration of multiple range images", 1992). Landmarks prevent lips and eyelids from
sliding. The code is plain numpy in float64: it prepares or evaluates models and scans and is not
part of the fit to a photo.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from lifemask.registration.closest_points import SurfacePoints, TriangleSurface
from lifemask.registration.rigid import align, cross_matrices, rotation_matrix

Array = np.ndarray


@dataclass(frozen=True)
class LinearShape:
    """A mean shape and its modes: the parts of a morphable model that registration needs."""

    mean: Float[Array, "V 3"]
    """Mean vertices in metres."""
    basis: Float[Array, "I V 3"]
    """Identity modes in metres per standard deviation."""
    triangles: Int[Array, "T 3"]
    """Triangles that may contain correspondences; leave out mouth bag, eyeballs and teeth."""

    def vertices(self, coefficients: Float[Array, "K"]) -> Float[Array, "V 3"]:
        """Return the vertices for coefficients of the first K modes, metres."""
        modes = self.basis[: len(coefficients)]
        return self.mean + np.tensordot(coefficients, modes, axes=1)

    def truncated(self, modes: int) -> "LinearShape":
        """Return the same shape with its first `modes` modes."""
        return replace(self, basis=self.basis[:modes])


@dataclass(frozen=True)
class LandmarkPairs:
    """Points of the model with known positions on the target."""

    triangle_index: Int[Array, "N"]
    """Triangle of the model that contains each landmark, an index into `all_triangles`."""
    barycentric: Float[Array, "N 3"]
    """Weights of that triangle's corners."""
    target: Float[Array, "N 3"]
    """Position of each landmark on the target, metres."""
    weight: Float[Array, "N"]
    """Weight of each pair, 0 to 1."""
    all_triangles: Int[Array, "T 3"]
    """The triangles into which `triangle_index` points."""


@dataclass(frozen=True)
class RegistrationConfig:
    """Settings of the registration of a morphable model to points."""

    iterations: int = 20
    """Gauss-Newton steps."""
    prior: float = 2.0
    """Cost of one squared standard deviation, in square millimetres summed over 5,000 points."""
    landmark_weight: float = 4.0
    """Weight of a landmark's squared millimetre, relative to that of one of 5,000 points."""
    plane_share: float = 0.9
    """Share of the point cost that uses only the distance along the surface normal, 0 to 1."""
    point_scale_metres: float = 0.004
    """Distance from which a point counts as an outlier."""
    landmark_scale_metres: float = 0.004
    """The same for landmarks."""
    free_scale: bool = True
    """Whether the target's size is unknown; the model is then scaled."""


@dataclass(frozen=True)
class Registration:
    """The model after registration: target = scale * rotation @ x + translation."""

    scale: float
    """Size of the target divided by that of the model."""
    rotation: Float[Array, "3 3"]
    """Rotation from model axes to target axes."""
    translation: Float[Array, "3"]
    """Translation in target axes, metres."""
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
    """Return the pose, scale and identity with which the model fits the points best.

    Args:
        shape: the model; all its modes are used.
        points: target points in metres.
        weights: area or confidence of each point; only ratios matter.
        landmarks: pairs that are also fitted. Without them `start` is required.
        normals: unit normals of the target; the weight of a pair falls with the angle between its
            normals and is zero beyond a right angle. This distinguishes the two sides of lips, lids
            and ears.
        start: initial scale, rotation and translation; default: from alignment of the landmarks.
        surface: the model's topology, if many targets share it.
        config: weights and iterations.

    Raises:
        ValueError: there is no start, and there are fewer than four landmarks.
    """
    config = config or RegistrationConfig()
    if start is None:
        if landmarks is None or len(landmarks.target) < 4:
            raise ValueError(
                "Registration needs a start: give at least four landmark pairs, or start="
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
        rotation = rotation_matrix(step[modes : modes + 3]) @ rotation
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
            trust = trust * np.clip((normal * self.normals).sum(-1), 0, 1)
        along = np.einsum("nd,ndk->nk", normal, jacobian)
        share = config.plane_share
        matrix = share * (along * trust[:, None]).T @ along
        vector = share * (along * trust[:, None]).T @ (normal * residual).sum(-1)
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
        by_rotation = -cross_matrices(offset)
        by_translation = np.broadcast_to(np.eye(3), (count, 3, 3))
        parts = [modes, by_rotation, by_translation]
        if self.config.free_scale:
            parts.append(offset[:, :, None] / scale)
        return np.concatenate(parts, axis=2) * 1e3


def landmark_positions(
    vertices: Float[Array, "V 3"], landmarks: LandmarkPairs
) -> Float[Array, "N 3"]:
    """Return the positions of the model's landmarks for these vertices."""
    corners = vertices[landmarks.all_triangles[landmarks.triangle_index]]
    return (landmarks.barycentric[..., None] * corners).sum(1)
