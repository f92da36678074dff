"""A reconstructed head as plain data: photo, observation, fit, texture, model."""

from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.fit import FaceFit
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.hair.head_of_hair import Hair
from lifemask.hair.making import make_hair
from lifemask.hair.styles import AUTO
from lifemask.io.images import Photo
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.contour import fixed_landmarks68, outline_landmarks68
from lifemask.morphable.covered import covered_share
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.perception.overlaps import without_faces
from lifemask.pipeline.compact import compacted, restored
from lifemask.pipeline.face_warnings import FaceWarning, face_signals, warnings_of
from lifemask.rendering.heads import HeadSurface, head_surface
from lifemask.texture.face_texture import FaceTexture
from lifemask.texture.skin_maps import unhidden_vertices


@dataclass(frozen=True)
class ReconstructedHead:
    """A person's head as seen in one photo."""

    photo: Photo
    """The photo that shows it."""
    observation: FaceObservation
    """Measurements of perception."""
    fit: FaceFit
    """Shape, camera and light."""
    texture: FaceTexture
    """Light-free colour."""
    model: MorphableModel
    """The head model, shared by all reconstructions."""
    hair_style: str = AUTO
    """The hair that was asked for, one of `lifemask.hair.styles.STYLES`."""

    @property
    def face(self) -> ExplainedFace:
        """The explained face, with the texture as its albedo map and the light map that belongs to it."""
        albedo = self.texture.albedo
        everywhere = albedo.new_ones(()).expand(albedo.shape[-2:])
        return replace(
            self.fit.face,
            albedo_map=UVMap(albedo, everywhere),
            light_map=self.texture.light_map,
        )

    @property
    def coefficients(self) -> FaceCoefficients:
        """Identity, expression, gaze and albedo."""
        return self.fit.face.coefficients

    @property
    def neutral_coefficients(self) -> FaceCoefficients:
        """The same person with a neutral face, looking straight ahead, in the model's mean skin."""
        return replace(self.model.neutral(), identity=self.coefficients.identity)

    @property
    def camera(self) -> PerspectiveCamera:
        """Camera of the whole photo."""
        return self.fit.face.camera

    @property
    def light(self) -> SphericalHarmonicsLight:
        """Light of the photo."""
        return self.fit.face.light

    @property
    def confidence(self) -> float:
        """0 to 1: how far pose and shape can be trusted; low on profiles and covered faces."""
        agreement = float(np.exp(-((self.fit.landmark_error / 0.05) ** 2)))
        seen = 1 - covered_share(self.model, self.face)
        return float(self.observation.presence) * agreement * seen

    @cached_property
    def warnings(self) -> tuple[FaceWarning, ...]:
        """Why this head may be wrong; empty if nothing in the photo speaks against it."""
        signals = face_signals(self.photo.pixels, self.observation, self.fit, self.model)
        return warnings_of(signals)

    @cached_property
    def surface(self) -> HeadSurface:
        """The head as in the photo, in head space: mesh, texture, displacement."""
        return head_surface(self.model, self.face)

    @cached_property
    def unhidden(self) -> Float[Tensor, "V"]:
        """Which share of even light from everywhere the neutral head lets through to its vertices."""
        return unhidden_vertices(self.model, self.neutral_coefficients)

    @cached_property
    def hair(self) -> Hair:
        """The hair on the head, in head space; made when it is needed first.

        Raises:
            ValueError: the style is unknown.
        """
        pixels = without_faces(self.photo.pixels, self.observation.in_front)
        return make_hair(
            self.hair_style, self.model, self.fit.face, pixels, self.observation, self.texture.hair
        )

    @property
    def mesh(self) -> Mesh:
        """The surface's mesh with displacement, without lashes."""
        return self.surface.mesh

    def landmarks68(self) -> Float[Tensor, "68 3"]:
        """Return the 68 points that are fixed on the surface, hidden or not, in head space, metres."""
        return fixed_landmarks68(self.model, self.mesh.vertices)

    def landmarks68_outline(self) -> Float[Tensor, "68 3"]:
        """Return iBUG's points in head space, metres, the jaw's on the outline that the camera sees."""
        return outline_landmarks68(self.model, self.mesh.vertices, self.camera)

    def __getstate__(self) -> dict[str, Any]:
        """Return a few megabytes for pickle; what is rounded is in `lifemask.pipeline.compact`."""
        return compacted({field.name: getattr(self, field.name) for field in fields(self)})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(restored(state))

    def __copy__(self) -> "ReconstructedHead":
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReconstructedHead":
        """Return a copy that shares photo, texture and model, which nothing changes."""
        observation, fit = deepcopy(self.observation, memo), deepcopy(self.fit, memo)
        return replace(self, observation=observation, fit=fit)
