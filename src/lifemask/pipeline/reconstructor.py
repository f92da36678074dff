"""From a photo to reconstructed heads: perception, prediction, fit and texture."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from lifemask.fitting.config import FitConfig, Quality
from lifemask.fitting.fit import FaceFit, FaceFitter
from lifemask.geometry.precision import single_precision
from lifemask.hair.styles import AUTO, check_style
from lifemask.io.images import BinaryFile, Layout, Photo, as_photo
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception import FaceObservation, FacePerception
from lifemask.perception.face_perception import single_thread
from lifemask.perception.onnx_runtime import Runtime
from lifemask.perception.overlaps import without_faces
from lifemask.perception.photo_segments import with_trusted_segmentation
from lifemask.pipeline.occluders import with_occluders
from lifemask.pipeline.predictor import SystemPredictor
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.second_stages import SecondStage, released_stages
from lifemask.pipeline.sight_view import SightView, sight_view
from lifemask.systems.registry import DEFAULT_SYSTEM, check_first_stage, load_system
from lifemask.texture.face_texture import check_resolution, face_texture

Faces = Literal["all", "largest"]
Predictor = Callable[[UInt8[np.ndarray, "H W 3"], FaceObservation], ExplainedFace]
"""Predicts an observed face of a photo: sRGB pixels and observation in, the face in the photo's
pixels out."""
PhotoSource = (
    Photo
    | str
    | os.PathLike[str]
    | bytes
    | BinaryFile
    | Image.Image
    | Shaped[np.ndarray, "A B C"]
    | Shaped[Tensor, "A B C"]
)
"""What `as_photo` reads."""


class FaceReconstructor:
    """Reconstructs the heads in photos; holds the networks and the head model."""

    def __init__(
        self,
        perception: FacePerception,
        predictor: Predictor | None,
        fitter: FaceFitter,
        *,
        stages: Sequence[SecondStage] = (),
        refine: bool = True,
        texture_size: int | None = None,
        hair: str = AUTO,
    ) -> None:
        """Hold the stages of a reconstruction.

        Args:
            perception: finds and measures faces.
            predictor: predicts each face; the fit starts there. Without one, the fit starts from
                the mean face.
            fitter: fits the head to a face.
            stages: add to fitted faces what the photo shows beyond the model, one after the other.
            refine: whether predictions are fitted; if not, they are the result as they are.
            texture_size, hair: as in `from_pretrained`.

        Raises:
            ValueError: nothing to refine and no predictor, the texture size is not allowed, or the
                hair is unknown.
        """
        check_resolution(texture_size)
        check_style(hair)
        if predictor is None and not refine:
            raise ValueError("Got refine=False without a predictor. Give one, or let it refine.")
        self.perception = perception
        self.predictor = predictor
        self.fitter = fitter
        self.stages = tuple(stages)
        self.refine = refine
        self.texture_size = texture_size
        self.hair = hair

    @property
    def model(self) -> MorphableModel:
        """The head model."""
        return self.fitter.model

    @classmethod
    @single_precision()
    def from_pretrained(
        cls,
        *,
        quality: Quality = "full",
        device: str | torch.device = "cpu",
        texture_size: int | None = None,
        system: str = DEFAULT_SYSTEM,
        refine: bool = True,
        hair: str = AUTO,
        runtime: Runtime = "torch",
    ) -> "FaceReconstructor":
        """Load the default head and the networks that ship with the package.

        A system predicts each face, and the fit starts there. The further the head is turned away,
        the more the predicted landmarks count.

        Args:
            quality: `fast` fits shape to landmarks only; `full` also to the photo's colours, and adds
                the relief of the skin.
            device: of the networks; the fit itself runs on the CPU.
            texture_size: texels along each side of the head's texture, a multiple of 512 up to
                8192; None for 2048, or 4096 or 8192 where the photo shows the face more finely.
            system: name of the system that predicts.
            refine: whether its predictions are fitted; if not, they are the result as they are.
            hair: `auto` follows the photo where it shows the outline of the hair, `none` only
                paints hair on the scalp, `shell` follows the photo in any case; or the name of a
                hair mesh, see `lifemask.hair.styles.STYLES`.
            runtime: "torch", or "onnxruntime", with which detecting and predicting on a CPU takes two
                thirds of the time. The networks are exported at the first use, into the cache.

        Raises:
            ImportError: onnxruntime is asked for and not installed.
            ValueError: the quality, the system or the hair is unknown, the system is a second stage,
                or the texture size is not allowed.
        """
        check_resolution(texture_size)
        check_style(hair)
        check_first_stage(system)
        config = FitConfig.preset(quality)
        model = MorphableModel.from_pretrained()
        predictor = SystemPredictor(load_system(system, device, runtime=runtime), model)
        fitter = FaceFitter(model, config)
        stages = released_stages(model, device) if quality == "full" and refine else ()
        perception = FacePerception.from_pretrained(device, runtime=runtime)
        return cls(
            perception,
            predictor,
            fitter,
            stages=stages,
            refine=refine,
            texture_size=texture_size,
            hair=hair,
        )

    @single_precision()
    def __call__(
        self,
        photo: PhotoSource,
        *,
        faces: Faces = "all",
        crop: bool = False,
        layout: Layout | None = None,
        on_stage: Callable[[str], object] | None = None,
    ) -> list[FaceReconstruction]:
        """Reconstruct the faces of a photo, largest first; an empty list where none convinces.

        Args:
            photo: a path, the bytes of a file, an open binary file, a PIL image, or sRGB pixels in
                an array or a tensor: uint8, or floating point in [0, 1]. Pixels are copied.
            faces: every face, or only the largest.
            crop: the photo is cut to one face: always one reconstruction, of low confidence if no
                face convinces.
            layout: order of the axes of pixels, "HWC" or "CHW". Arrays are "HWC" by default; for
                tensors it must be said.
            on_stage: told what is done at the moment, in a few words, for a display of progress.

        Raises:
            PhotoError: if the photo cannot be read; the message says why.
            ValueError: if `faces` is unknown.
        """
        photo = as_photo(photo, layout=layout)
        say = on_stage or (lambda stage: None)
        say("finding faces")
        found = self.observe(photo, faces, crop=crop)
        heads: list[FaceReconstruction] = []
        for number, seen in enumerate(found, start=1):
            say("fitting" if len(found) == 1 else f"fitting face {number} of {len(found)}")
            heads.append(self.reconstruct(photo, seen))
        return heads

    @single_precision()
    def observe(self, photo: Photo, faces: Faces, *, crop: bool) -> list[FaceObservation]:
        """Find and measure the faces of a photo; an empty list where none convinces.

        Raises:
            ValueError: if `faces` is unknown.
        """
        if faces not in get_args(Faces):
            raise ValueError(f"Got faces={faces!r}. Known: {', '.join(get_args(Faces))}.")
        quality = self.fitter.config.quality
        if crop:
            return [self.perception.observe_crop(photo.pixels, quality=quality, segment=True)]
        return self.perception.faces(
            photo.pixels, largest=faces == "largest", quality=quality, segment=True
        )

    @single_precision()
    def reconstruct(self, photo: Photo, observation: FaceObservation) -> FaceReconstruction:
        """Predict one observed face, fit the head from there, and make its texture."""
        observation = with_trusted_segmentation(observation)
        fit = self.explain(photo.pixels, observation, focal_pixels=photo.focal_pixels)
        texture = face_texture(
            without_faces(photo.pixels, observation.in_front),
            fit.face,
            self.model,
            observation,
            resolution=self.texture_size,
        )
        return FaceReconstruction(photo, observation, fit, texture, self.model, self.hair)

    @single_precision()
    def explain(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        *,
        focal_pixels: float | None = None,
    ) -> FaceFit:
        """Predict one observed face, fit the head from there, and let the second stages add to it.

        Predicted albedo, displacement and landmarks stay. A predicted depth and light map do not
        stay beside a fit: the fit has another camera and another light. If the focal length is known
        and the face lies far from the middle of the photo, it is predicted and fitted in a view that
        looks straight at it. Stages add nothing that the prediction has already.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces.
            focal_pixels: the camera's focal length if the photo tells it.
        """
        pixels = without_faces(pixels, observation.in_front)
        fit = self._fitted(pixels, observation, focal_pixels)
        with single_thread(self.model.mean.device):
            for stage in self.stages:
                fit = replace(fit, face=stage(pixels, observation, fit.face))
        return fit

    def _fitted(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        focal_pixels: float | None,
    ) -> FaceFit:
        """Predict and fit one face; see `explain`."""
        view = None
        if focal_pixels is not None and self.refine and observation.score > 0:
            view = sight_view(pixels, observation, focal_pixels)
        if view is None or focal_pixels is None:
            return self._explain_as_it_is(pixels, observation, focal_pixels)
        # In the view of a wrong focal length all faces are squeezed, so the photo is asked first.
        focal_dropped = self.fitter.focal_contradiction(pixels, observation, focal_pixels)
        if focal_dropped is None:
            fit = self._explain_in_view(view, observation)
            if fit.focal_dropped is None:
                return replace(fit, face=view.face_in_photo(fit.face))
            focal_dropped = fit.focal_dropped
        free = self._explain_as_it_is(pixels, observation, None)
        return replace(free, focal_dropped=focal_dropped)

    def _explain_in_view(self, view: SightView, observation: FaceObservation) -> FaceFit:
        """Predict and fit a face in a view of it, in the pixels of the view."""
        seen = self.perception.observe(
            view.pixels,
            view.detection(observation),
            quality=self.fitter.config.quality,
            segment=observation.segmentation is not None,
            embed=False,
        )
        return self._explain_as_it_is(
            view.pixels, with_trusted_segmentation(seen), view.focal_pixels
        )

    def _explain_as_it_is(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        focal_pixels: float | None,
    ) -> FaceFit:
        """Predict and fit a face in the given pixels, stretched or not."""
        prediction = self.predict(pixels, observation)
        if prediction is None:
            return self.fitter(pixels, observation, focal_pixels=focal_pixels)
        if not self.refine:
            return self.fitter.unrefined(pixels, observation, prediction)
        predictor = self.predictor
        solved = isinstance(predictor, SystemPredictor) and predictor.system.solves
        fit = self.fitter(
            pixels, observation, start=prediction, solved=solved, focal_pixels=focal_pixels
        )
        face = replace(
            fit.face,
            albedo_map=prediction.albedo_map,
            displacement_map=prediction.displacement_map,
            landmarks=prediction.landmarks,
        )
        return replace(fit, face=face)

    @single_precision()
    def predict(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> ExplainedFace | None:
        """Return the predictor's face in the photo's pixels, or None without a predictor."""
        if self.predictor is None:
            return None
        with single_thread(self.model.mean.device):
            return with_occluders(self.predictor(pixels, observation), observation, self.model)
