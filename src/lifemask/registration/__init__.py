"""Registration of a morphable model to scans, point clouds and other models.

`register` finds pose, scale and identity for points without known correspondences, `DenseFitter`
for points in full correspondence. `adopt` (in `lifemask.registration.adoption`) completes an
imported model so that it can be fitted to photos.
"""

from lifemask.registration.closest_points import (
    SurfacePoints,
    TriangleSurface,
    closest_barycentric,
    vertex_areas,
)
from lifemask.registration.dense_fit import DenseFit, DenseFitter
from lifemask.registration.gauss_newton import (
    LandmarkPairs,
    LinearShape,
    Registration,
    RegistrationConfig,
    landmark_positions,
    register,
)
from lifemask.registration.rigid import align, rigid_motions

__all__ = [
    "DenseFit",
    "DenseFitter",
    "LandmarkPairs",
    "LinearShape",
    "Registration",
    "RegistrationConfig",
    "SurfacePoints",
    "TriangleSurface",
    "align",
    "closest_barycentric",
    "landmark_positions",
    "register",
    "rigid_motions",
    "vertex_areas",
]
