"""The default head for registration: its outer skin, its modes, its dense landmarks."""

import numpy as np
from jaxtyping import Int

from lifemask.morphable import MorphableModel
from lifemask.registration import LandmarkPairs, LinearShape, TriangleSurface
from lifemask.registration.surface_landmarks import STABLE_SPREAD_METRES, SurfaceLandmarks

Array = np.ndarray


def outer_triangles(model: MorphableModel) -> Int[Array, "O"]:
    """Return the triangles of the outer skin: no sockets, mouth cavity, eyeballs or teeth."""
    start, stop = model.triangle_parts["skin"]
    skin = model.regions["skin"].numpy() > 0.5
    triangles = model.triangles.numpy()
    index = np.arange(start, stop)
    return index[skin[triangles[start:stop]].all(1)]


def face_shape(model: MorphableModel) -> LinearShape:
    """Return the model's identity modes on its outer skin, for registration."""
    return LinearShape(
        mean=model.mean.double().numpy(),
        basis=model.identity_basis.double().numpy(),
        triangles=model.triangles.numpy()[outer_triangles(model)],
    )


def landmark_pairs(
    shape: LinearShape, own: SurfaceLandmarks, target: SurfaceLandmarks
) -> LandmarkPairs:
    """Return the dense points that are stable on both sides, without the irises."""
    spread = np.maximum(own.spread, target.spread)
    stable = spread < STABLE_SPREAD_METRES
    stable[468:] = False
    surface = TriangleSurface(shape.triangles, len(shape.mean))
    place = surface.closest(shape.mean, own.position[stable])
    return LandmarkPairs(
        triangle_index=place.triangle_index,
        barycentric=place.barycentric,
        target=target.position[stable],
        weight=np.exp(-((spread[stable] / STABLE_SPREAD_METRES) ** 2)),
        all_triangles=shape.triangles,
    )


def dense_landmarks(model: MorphableModel) -> SurfaceLandmarks:
    """Return the dense points that ship with the head; their spread follows from their weights.

    Raises:
        ValueError: the model has no dense landmarks.
    """
    embedding = model.dense478
    if embedding is None:
        raise ValueError(
            "This model has no dense landmarks. Build them with tools/build_landmarks.py."
        )
    position = embedding.points(model.mean, model.triangles).double().numpy()
    weight = embedding.weight.double().numpy().clip(1e-3, 1)
    spread = STABLE_SPREAD_METRES * np.sqrt(-np.log(weight))
    # The weight of a completed point was not measured in views.
    spread[weight <= 0.3] = np.inf
    return SurfaceLandmarks(position, spread, np.ones(len(weight), np.int64))
