"""Errors of the head's geometry on other people's models and scans."""

from lifemask.evaluation.geometry.errors import (
    Correspondence,
    closest_point_error,
    correspond_to_ict,
    ibug_errors,
    scan_registration,
    vertex_errors,
)
from lifemask.evaluation.geometry.head import (
    dense_landmarks,
    face_shape,
    landmark_pairs,
    outer_triangles,
)
from lifemask.evaluation.geometry.ict import ICT_SKIN_VERTICES, IctTarget, ict_target
from lifemask.evaluation.geometry.scan import ScanTarget, james_target
from lifemask.evaluation.geometry.visibility import visible_vertices

__all__ = [
    "ICT_SKIN_VERTICES",
    "Correspondence",
    "IctTarget",
    "ScanTarget",
    "closest_point_error",
    "correspond_to_ict",
    "dense_landmarks",
    "face_shape",
    "ibug_errors",
    "ict_target",
    "james_target",
    "landmark_pairs",
    "outer_triangles",
    "scan_registration",
    "vertex_errors",
    "visible_vertices",
]
