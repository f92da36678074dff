"""Correspondence of points of the default head and vertices of ICT-FaceKit, measured once."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from lifemask.evaluation.cache import default_cache_folder, write_arrays
from lifemask.evaluation.fingerprint import code_fingerprint
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception

Array = np.ndarray


@dataclass(frozen=True)
class HeadToIct:
    """A fixed partner on the default head for each measured ICT vertex."""

    vertices: Int[Array, "N"]
    """ICT's vertices: the narrow face seen from the front, without the eyes."""
    corners: Int[Array, "N 3"]
    """The three vertices of the head around each partner."""
    barycentric: Float[Array, "N 3"]
    """Weights of these vertices."""
    areas: Float[Array, "N"]
    """Area around each ICT vertex, square metres."""
    vertex_count: Int[Array, ""]
    """Number of vertices of the head; a mesh with another number is not this head."""

    def partners(self, values: Float[Array, "V C"]) -> Float[Array, "N C"]:
        """Return values of the head's vertices (positions, colours) at the partners."""
        corners = values[self.corners].astype(np.float64)
        return (corners * self.barycentric[..., None]).sum(1)


def head_to_ict(ict_model: Path, *, cache: Path | None = None) -> HeadToIct:
    """Return the correspondence, from the cache if it was measured before.

    The head is registered to ICT's mean by its dense landmarks, then by the whole face (see
    `correspond_to_ict`).
    """
    root = default_cache_folder() if cache is None else cache
    version = code_fingerprint(__name__)
    path = root / "evaluate" / "correspondence" / f"{version}.npz"
    if not path.exists():
        write_arrays(path, _measured(ict_model))
    with np.load(path, allow_pickle=False) as arrays:
        return HeadToIct(**{f.name: arrays[f.name] for f in fields(HeadToIct)})


def _measured(ict_model: Path) -> dict[str, Array]:
    # These imports are slow and only needed once.
    from lifemask.evaluation.geometry import (
        correspond_to_ict,
        dense_landmarks,
        face_shape,
        ict_target,
    )

    model = MorphableModel.from_pretrained()
    shape = face_shape(model)
    target = ict_target(ict_model, FacePerception.from_pretrained())
    found = correspond_to_ict(shape, dense_landmarks(model), target)
    return {
        "vertices": found.vertices,
        "corners": shape.triangles[found.surface.triangle_index],
        "barycentric": found.surface.barycentric,
        "areas": found.weights,
        "vertex_count": np.array(len(model.mean)),
    }
