"""ICT-FaceKit as a target: its skin, its identities, and the measured vertices.

All identities are in full correspondence with each other. After one registration of the head to
ICT's mean, every vertex of every identity has a known partner.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from lifemask.evaluation.geometry.visibility import visible_vertices
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.importers import ImportedModel, load_ict
from lifemask.morphable.importers.ict import NARROW_FACE
from lifemask.perception import FacePerception
from lifemask.registration import vertex_areas
from lifemask.registration.surface_landmarks import (
    Appearance,
    SurfaceLandmarks,
    find_surface_landmarks,
)

Array = np.ndarray

ICT_SKIN_VERTICES = 11248
"""Number of vertices of face, head and neck, which come first in ICT's vertex order."""

_FACE_VIEWS = ((-45, 0), (-20, 10), (0, 0), (0, 20), (0, -25), (20, 10), (45, 0))
_HEAD_VIEWS = tuple((yaw, pitch) for yaw in range(-180, 180, 30) for pitch in (-40, 0, 40))
_SKIN_COLOUR = (0.55, 0.36, 0.28)
_IRIS_COLOUR = (0.12, 0.07, 0.04)
_SCLERA_COLOUR = (0.85, 0.85, 0.85)


@dataclass(frozen=True)
class IctTarget:
    """ICT-FaceKit's skin, with the vertices that are measured."""

    mean: Float[Array, "N 3"]
    """Mean vertices, metres, head axes."""
    identity_basis: Float[Array, "I N 3"]
    """Modes, metres per standard deviation."""
    triangles: Int[Array, "T 3"]
    """Skin triangles."""
    normals: Float[Array, "N 3"]
    """Unit normals of the mean."""
    weights: Float[Array, "N"]
    """Area around each vertex of the mean, square metres."""
    face: Int[Array, "F"]
    """Vertices that are measured: the narrow face visible from the front, without the eyes."""
    head: Int[Array, "H"]
    """Vertices on the outside of the head above the neck, including the face."""
    landmarks68: Float[Array, "68 3"]
    """ICT's own iBUG points."""
    landmarks: SurfaceLandmarks
    """The dense landmarks on the mean."""

    def identities(self, seed: int, count: int) -> Float[Array, "count I"]:
        """Return coefficients of random people; other seeds give other people."""
        return np.random.default_rng(seed).normal(size=(count, len(self.identity_basis)))


def ict_target(path: Path, perception: FacePerception) -> IctTarget:
    """Read ICT-FaceKit Light and find the dense landmarks on its mean and on random people."""
    model = load_ict(path)
    mean = model.mean[:ICT_SKIN_VERTICES]
    triangles = model.triangles[(model.triangles < ICT_SKIN_VERTICES).all(1)]
    basis = model.identity_basis[:, :ICT_SKIN_VERTICES].astype(np.float64)
    seen = visible_vertices(mean, triangles, _FACE_VIEWS)
    outside = visible_vertices(mean, triangles, _HEAD_VIEWS) | seen
    narrow = np.arange(len(mean)) < NARROW_FACE
    assert model.landmarks68 is not None
    landmarks68 = model.landmarks68.points(model.mean, model.triangles)
    neck = landmarks68[8, 1] + 0.01
    return IctTarget(
        mean=mean,
        identity_basis=basis,
        triangles=triangles,
        normals=vertex_normals(torch.from_numpy(mean), torch.from_numpy(triangles)).numpy(),
        weights=vertex_areas(mean, triangles),
        face=np.flatnonzero(seen & narrow),
        head=np.flatnonzero(outside & ((mean[:, 1] > neck) | (seen & narrow))),
        landmarks68=landmarks68,
        landmarks=_ict_landmarks(model, perception),
    )


def _ict_landmarks(model: ImportedModel, perception: FacePerception) -> SurfaceLandmarks:
    mean = torch.from_numpy(model.mean).float()
    colours = torch.tensor(_SKIN_COLOUR).repeat(len(mean), 1)
    drawn = np.zeros(len(mean), bool)
    drawn[:ICT_SKIN_VERTICES] = True
    drawn |= (model.regions["gums_and_tongue"] + model.regions["teeth"]) > 0.5
    for side in ("eyeball_left", "eyeball_right"):
        inside = model.regions[side] > 0.5
        drawn |= inside
        ball = mean[torch.from_numpy(inside)]
        forward = torch.nn.functional.normalize(ball - ball.mean(0), dim=-1)[:, 2]
        iris = (forward > 0.86)[:, None]
        colours[torch.from_numpy(inside)] = torch.where(
            iris, torch.tensor(_IRIS_COLOUR), torch.tensor(_SCLERA_COLOUR)
        )
    triangles = torch.from_numpy(model.triangles[drawn[model.triangles].all(1)])
    skin = torch.nonzero((triangles < ICT_SKIN_VERTICES).all(1)).squeeze(1)
    generator = torch.Generator().manual_seed(3)
    basis = torch.from_numpy(model.identity_basis.astype(np.float32))
    shapes = [mean]
    for _ in range(3):
        coefficients = torch.randn(len(basis), generator=generator) * 0.6
        shapes.append(mean + torch.tensordot(coefficients, basis, dims=1))
    return find_surface_landmarks(
        perception,
        shapes,
        [Appearance(vertex_colours=colours)] * len(shapes),
        triangles,
        reference=mean,
        centre=torch.tensor([0.0, -0.03, 0.0]),
        landing=skin,
    )
