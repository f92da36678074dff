"""Errors of the head's geometry on ICT-FaceKit's identities and on a scan, in metres.

The vertex-to-vertex error includes sliding along the surface; the closest-point error does not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from lifemask.evaluation.geometry.head import landmark_pairs
from lifemask.evaluation.geometry.ict import IctTarget
from lifemask.evaluation.geometry.scan import ScanTarget
from lifemask.morphable import MorphableModel
from lifemask.registration import (
    DenseFitter,
    LinearShape,
    Registration,
    RegistrationConfig,
    SurfacePoints,
    TriangleSurface,
    register,
)
from lifemask.registration.surface_landmarks import SurfaceLandmarks

Array = np.ndarray


@dataclass(frozen=True)
class Correspondence:
    """The head registered to ICT's mean: the point of the head for each ICT vertex."""

    vertices: Int[Array, "N"]
    """Measured ICT vertices."""
    weights: Float[Array, "N"]
    """Area around each vertex, square metres."""
    surface: SurfacePoints
    """Their partners on the head."""
    registration: Registration
    """The head on ICT's mean."""


def correspond_to_ict(
    shape: LinearShape, own: SurfaceLandmarks, ict: IctTarget, *, iterations: int = 16
) -> Correspondence:
    """Register a head to ICT's mean by the dense landmarks, then by the whole face."""
    weights = ict.weights[ict.face]
    fitted = register(
        shape,
        ict.mean[ict.face],
        weights,
        landmarks=landmark_pairs(shape, own, ict.landmarks),
        normals=ict.normals[ict.face],
        config=RegistrationConfig(
            iterations=iterations, prior=2.0, landmark_weight=3.0, free_scale=False
        ),
    )
    return Correspondence(ict.face, weights, fitted.surface, fitted)


def vertex_errors(
    shape: LinearShape,
    correspondence: Correspondence,
    ict: IctTarget,
    people: Float[Array, "P I"],
    modes: tuple[int, ...],
) -> dict[int, float]:
    """Return the mean vertex-to-vertex distance in metres over people, by number of modes.

    Each person is fitted in fixed correspondence: rigid pose and identity, without scale.
    """
    chosen = correspondence.vertices
    corners = shape.triangles[correspondence.surface.triangle_index]
    barycentric = correspondence.surface.barycentric
    mean = np.einsum("nc,ncd->nd", barycentric, shape.mean[corners])
    basis = np.einsum("nc,knc...->kn...", barycentric, shape.basis[:, corners])
    offsets = np.tensordot(people, ict.identity_basis[:, chosen], axes=1)
    result: dict[int, float] = {}
    for count in modes:
        fitter = DenseFitter(mean, basis[:count], correspondence.weights)
        distances = [fitter.fit(ict.mean[chosen] + offset).distance for offset in offsets]
        result[count] = float(np.average(np.mean(distances, 0), weights=correspondence.weights))
    return result


def closest_point_error(
    shape: LinearShape,
    correspondence: Correspondence,
    ict: IctTarget,
    people: Float[Array, "P I"],
    *,
    iterations: int = 6,
) -> float:
    """Return the mean distance in metres from people's vertices to the fitted head's surface.

    It is smaller than the true error, because it ignores sliding along the surface.
    """
    surface = TriangleSurface(shape.triangles, len(shape.mean), neighbours=4)
    config = RegistrationConfig(iterations=iterations, prior=1.0, free_scale=False)
    chosen, errors = correspondence.vertices, []
    for offset in np.tensordot(people, ict.identity_basis[:, chosen], axes=1):
        start = (
            1.0,
            correspondence.registration.rotation,
            correspondence.registration.translation,
        )
        fitted = register(
            shape,
            ict.mean[chosen] + offset,
            correspondence.weights,
            start=start,
            surface=surface,
            config=config,
        )
        errors.append(fitted.surface_error(correspondence.weights))
    return float(np.mean(errors))


def scan_registration(
    shape: LinearShape, own: SurfaceLandmarks, scan: ScanTarget
) -> tuple[Registration, float]:
    """Return the head fitted to a scan, with scale, and the mean distance of its face, metres."""
    weights = scan.weights[scan.face]
    fitted = register(
        shape,
        scan.vertices[scan.face],
        weights,
        landmarks=landmark_pairs(shape, own, scan.landmarks),
        normals=scan.normals[scan.face],
        config=RegistrationConfig(iterations=20, prior=0.5),
    )
    return fitted, fitted.surface_error(weights)


def ibug_errors(
    model: MorphableModel, correspondence: Correspondence, ict: IctTarget
) -> Float[Array, "68"]:
    """Return the distances between the head's iBUG points on ICT's mean and ICT's own, metres.

    Raises:
        ValueError: the model has no 68 landmarks.
    """
    embedding = model.landmarks68_outline
    if embedding is None:
        raise ValueError(
            "This model has no 68 landmarks. Build them with tools/build_landmarks.py."
        )
    vertices = torch.from_numpy(correspondence.registration.vertices).float()
    points = embedding.points(vertices, model.triangles).double().numpy()
    return np.linalg.norm(points - ict.landmarks68, axis=1)
