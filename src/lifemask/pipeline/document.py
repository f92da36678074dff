"""A reconstruction as a JSON document: everything but images and meshes."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lifemask
from lifemask.morphable.assets import used_assets
from lifemask.pipeline.displacement_file import displacement_range_mm
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.pipeline.relief import finest_millimetres

SCHEMA_VERSION = 2

_LEAST_METRES = 2e-6
"""Displacement from which a texel counts as relief."""


class DocumentError(ValueError):
    """A JSON file does not describe a reconstruction; the message says what is wrong."""


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
        "landmarks68_outline": _rounded(camera.project(face.landmarks68_outline())[:, :2], 2),
        "camera": {
            "focal_pixels": round(float(camera.focal_pixels), 3),
            "principal_point": _rounded(camera.principal_point, 3),
            "head_to_camera": _rounded(camera.world_to_camera, 6),
            "focal_known": face.photo.focal_pixels is not None and not face.fit.focal_dropped,
            "focal_dropped": face.fit.focal_dropped,
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
            "irises": face.texture.irises,
        },
        "relief": _relief(face),
        "hair": {
            "asked": face.hair_style,
            "style": face.hair.style,
            "reason": face.hair.reason,
            "message": face.hair.message,
        },
        "assets": used_assets(),
    }


def _relief(face: ReconstructedHead) -> dict[str, float] | None:
    """Return how high the relief of the skin is and how fine it can be trusted; None without one."""
    height = face.surface.displacement
    if height is None:
        return None
    shown = height[height.abs() > _LEAST_METRES] * 1000
    level = float(shown.square().mean().sqrt()) if len(shown) else 0.0
    return {
        "rms_mm": round(level, 2),
        "most_mm": round(float(height.abs().max()) * 1000, 3),
        "finest_mm": round(finest_millimetres(face.fit.face, face.model), 2),
        "range_mm": displacement_range_mm(height),
    }


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a document that `lifemask reconstruct` wrote, with the keys of the present schema.

    In schema 1, `landmarks68` has the jaw on the visible outline. It becomes `landmarks68_outline`,
    and `landmarks68` is missing.

    Raises:
        DocumentError: the file cannot be read, is no such document, or has a later schema.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DocumentError(f"Cannot read {str(path)!r}: {error}.") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in range(1, SCHEMA_VERSION + 1):
        raise DocumentError(
            f"{str(path)!r} has the schema {schema!r}; known are 1 to {SCHEMA_VERSION}. Name a JSON "
            "file that `lifemask reconstruct` wrote; if it has a later schema, update lifemask."
        )
    if schema == 1:
        document["landmarks68_outline"] = document.pop("landmarks68")
    return document | {"schema": SCHEMA_VERSION}


def _rounded(values: Any, digits: int = 4) -> Any:
    """Return a tensor as nested lists of short numbers."""
    return _round_nested(values.detach().double().tolist(), digits)


def _round_nested(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_round_nested(item, digits) for item in value]
    return round(value, digits)
