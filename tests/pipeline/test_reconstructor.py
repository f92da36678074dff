"""A reconstruction predicts first, then fits from the prediction."""

import dataclasses

import numpy as np
import torch

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception import FaceObservation
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor


def test_the_fit_starts_from_what_the_predictor_returns(
    face: FaceReconstruction, reconstructor: FaceReconstructor
) -> None:
    fitter = FaceFitter(face.model, FitConfig.preset("fast"))
    predicted: list[FaceObservation] = []

    def predictor(_pixels: np.ndarray, observation: FaceObservation) -> ExplainedFace:
        predicted.append(observation)
        return face.fit.face

    # A segmentation without skin is not trusted: neither predictor nor fit is given it.
    assert face.observation.segmentation is not None
    blind = dataclasses.replace(
        face.observation, segmentation=torch.zeros_like(face.observation.segmentation)
    )
    parts = FaceReconstructor(reconstructor.perception, predictor, fitter, texture_size=512)
    found = parts.reconstruct(face.photo, blind)
    assert [observation.segmentation for observation in predicted] == [None]
    expected = fitter(
        face.photo.pixels, predicted[0], start=face.fit.face, focal_pixels=face.photo.focal_pixels
    )
    assert torch.equal(found.fit.face.camera.world_to_camera, expected.face.camera.world_to_camera)
    assert torch.equal(found.coefficients.identity, expected.face.coefficients.identity)
