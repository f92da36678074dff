"""One reconstructed face: geometry, texture, light and camera, and everything made of them."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.fitting.fit import FaceFit
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.io.images import Photo
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.rendering import Rendering, render
from lifemask.texture.face_texture import FaceTexture


@dataclass(frozen=True)
class FaceReconstruction:
    """A person's head as seen in one photo."""

    photo: Photo
    """The photo it came from."""
    observation: FaceObservation
    """What perception measured."""
    fit: FaceFit
    """Shape, camera and light."""
    texture: FaceTexture
    """Light-free colour."""
    model: MorphableModel
    """The head model, shared by all reconstructions."""

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
        """0 to 1: how far pose and shape can be trusted; low on profiles and hidden faces."""
        agreement = float(np.exp(-((self.fit.landmark_error / 0.05) ** 2)))
        return float(self.observation.presence) * agreement

    @cached_property
    def mesh(self) -> Mesh:
        """The head as in the photo, in head space, without lashes."""
        return opaque_mesh(self.model, self.model.vertices(self.coefficients))

    def render(
        self,
        *,
        camera: PerspectiveCamera | None = None,
        light: SphericalHarmonicsLight | None = None,
        clay: bool = False,
    ) -> Rendering:
        """Draw the head.

        Args:
            camera: the photo's own by default; its `image_size` is the picture's size.
            light: the photo's own by default.
            clay: grey instead of the person's colours.
        """
        return render(
            self.mesh,
            camera or self.camera,
            texture=None if clay else self.texture.albedo,
            vertex_colours=torch.full_like(self.mesh.vertices, 0.55) if clay else None,
            light=light or self.light,
        )

    def relight(self, light: SphericalHarmonicsLight) -> Image.Image:
        """Return the photo with the head in another light; what is not head takes its average."""
        from lifemask.pipeline.relighting import relit_photo

        return Image.fromarray(relit_photo(self, light))

    def preview(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return one picture: photo, overlay, clay, albedo, lit from the left and the right."""
        from lifemask.pipeline.preview import preview_sheet

        return preview_sheet(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head as GLB, OBJ (with its texture beside it) or PLY, by the path's suffix.

        Raises:
            ValueError: if the suffix is none of these.
            OutputError: if the file cannot be written; nothing half-written is left.
        """
        from lifemask.io.gltf import write_glb
        from lifemask.io.obj import write_obj
        from lifemask.io.ply import write_ply
        from lifemask.pipeline.export import head_scene

        writers = {".glb": write_glb, ".obj": write_obj, ".ply": write_ply}
        path = Path(path)
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise ValueError(f"Cannot write {path.name!r}. Known formats: {sorted(writers)}.")
        writer(path, head_scene(self))

    def to_json_dict(self) -> dict[str, Any]:
        """Return everything but images and meshes, ready for JSON; see docs/output.md."""
        from lifemask.pipeline.document import face_document

        return face_document(self)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return meshes and per-pixel maps as plain arrays; see docs/output.md."""
        from lifemask.pipeline.arrays import face_arrays

        return face_arrays(self)

    def save_arrays(self, path: str | os.PathLike[str]) -> None:
        """Write `arrays` as a compressed NPZ file, with little memory however large the photo.

        Raises:
            OutputError: if the file cannot be written; nothing half-written is left.
        """
        from lifemask.io.files import atomic_write
        from lifemask.pipeline.arrays import write_arrays

        with atomic_write(path) as file:
            write_arrays(file, self)

    def landmarks68(self) -> Float[Tensor, "68 3"]:
        """Return the iBUG points in head space, the jaw's on the outline that the camera sees."""
        from lifemask.morphable.contour import visible_landmarks68

        return visible_landmarks68(self.model, self.mesh.vertices, self.camera)
