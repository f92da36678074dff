"""Fits identities to points with known correspondences on the model."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lifemask.registration.rigid import align, rigid_motions, rotation_matrix

Array = np.ndarray


@dataclass(frozen=True)
class DenseFit:
    """A model fitted to points with known correspondences."""

    coefficients: Float[Array, "I"]
    """Identity, in standard deviations."""
    distance: Float[Array, "N"]
    """Distance of every point to its corresponding model point, metres."""


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
        """Store the model points that correspond to the targets.

        Args:
            mean: corresponding points on the mean face, metres.
            basis: their identity modes, metres per standard deviation.
            weights: area of each point.
            prior: cost of one squared standard deviation in square millimetres, for points of
                weight 1.
        """
        self.mean, self.weights, self.count = mean, weights / weights.mean(), len(basis)
        self.basis = basis.reshape(len(basis), 3 * len(mean))
        columns = np.concatenate([self.basis, rigid_motions(mean).reshape(6, -1)])
        self.weighted = columns * np.repeat(self.weights, 3) * 1e6
        matrix = self.weighted @ columns.T
        matrix[np.arange(self.count), np.arange(self.count)] += prior
        self.inverse = np.linalg.inv(matrix)

    def fit(self, points: Float[Array, "N 3"], *, iterations: int = 4) -> DenseFit:
        """Return the rigid pose and identity that fit the points (metres) best; the scale is 1."""
        _, rotation, translation = align(self.mean, points, self.weights)
        coefficients = np.zeros(self.count)
        for _ in range(iterations):
            wanted = (points - translation) @ rotation - self.mean
            # Pose and identity are solved together: in alternation, they converge slowly.
            solution = self.inverse @ (self.weighted @ wanted.reshape(-1))
            coefficients, twist = solution[: self.count], solution[self.count :]
            translation = translation + rotation @ twist[3:]
            rotation = rotation @ rotation_matrix(twist[:3])
        shape = self.mean + (coefficients @ self.basis).reshape(-1, 3)
        _, rotation, translation = align(shape, points, self.weights)
        distance = np.linalg.norm(shape @ rotation.T + translation - points, axis=1)
        return DenseFit(coefficients, distance)
