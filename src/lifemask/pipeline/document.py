"""A reconstruction as a JSON document: everything but images and meshes."""

from dataclasses import asdict
from typing import Any

import lifemask
from lifemask.morphable.assets import used_assets
from lifemask.pipeline.reconstructed_head import ReconstructedHead

SCHEMA_VERSION = 1


def face_document(face: ReconstructedHead) -> dict[str, Any]:
    """Return what was measured, in plain numbers; the schema is in docs/output.md."""
    camera, coefficients = face.camera, face.coefficients
    expression = dict(
        zip(face.model.expression_names, _rounded(coefficients.expression), strict=True)
    )
    origin = face.texture.origin
    return {
        "schema": SCHEMA_VERSION,
        "software": f"lifemask {lifemask.__version__}",
        "photo": {
            "name": face.photo.name,
            "width": face.photo.pixels.shape[1],
            "height": face.photo.pixels.shape[0],
        },
        "box_xyxy": _rounded(face.observation.box_xyxy, 2),
        "confidence": round(face.confidence, 4),
        "warnings": [asdict(warning) for warning in face.warnings],
        "presence": round(float(face.observation.presence), 4),
        "landmark_error": round(face.fit.landmark_error, 5),
        "landmarks68": _rounded(camera.project(face.landmarks68())[:, :2], 2),
        "camera": {
            "focal_pixels": round(float(camera.focal_pixels), 3),
            "principal_point": _rounded(camera.principal_point, 3),
            "head_to_camera": _rounded(camera.world_to_camera, 6),
            "focal_known": face.photo.focal_pixels is not None,
        },
        "coefficients": {
            "identity": _rounded(coefficients.identity),
            "expression": expression,
            "gaze_radians": _rounded(coefficients.gaze),
            "albedo": _rounded(coefficients.albedo),
        },
        "light_sh": _rounded(face.light.coefficients, 5),
        "texture": {
            "size": face.texture.size,
            "observed_share": round(float((origin == 2).float().mean()), 4),
            "mirrored_share": round(float((origin == 1).float().mean()), 4),
            "hair_coverage": round(face.texture.hair.coverage, 3),
        },
        "assets": used_assets(),
    }


def _rounded(values: Any, digits: int = 4) -> Any:
    """Return a tensor as nested lists of short numbers."""
    return _round_nested(values.detach().double().tolist(), digits)


def _round_nested(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_round_nested(item, digits) for item in value]
    return round(value, digits)
