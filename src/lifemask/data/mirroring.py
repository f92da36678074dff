"""Mirrors batches, explained faces and their parts from left to right."""

from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.perception.blendshapes import mirrored_expressions
from lifemask.perception.landmarks import FaceMeshTopology

MIRROR68: tuple[int, ...] = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
"""Index of the mirror image of each of the 68 iBUG points."""

MIRROR21: tuple[int, ...] = (
    5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 16, 15, 14, 13, 12, 19, 18, 17, 20
)  # fmt: skip
"""Index of the mirror image of each of AFLW's 21 points."""

MIRROR200: tuple[int, ...] = tuple(index ^ 1 for index in range(200))
"""Index of the mirror image of each of the 200 surface points."""

_ODD_IN_X = (1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0)


def mirrored_batch(batch: FaceBatch) -> FaceBatch:
    """Return the batch with all crops, labels and truth flipped left to right.

    `person` stays the same, although a mirrored person is another person.
    """
    width = batch.photo.shape[-1]
    order478 = tuple(mirror478().tolist())
    return replace(
        batch,
        photo=batch.photo.flip(-1),
        landmarks68=_mirrored_points(batch.landmarks68, MIRROR68, width),
        landmarks68_weight=batch.landmarks68_weight[..., list(MIRROR68)],
        landmarks478=_mirrored_points(batch.landmarks478, order478, width),
        landmarks478_weight=batch.landmarks478_weight[..., list(order478)],
        aflw21=_mirrored_points(batch.aflw21, MIRROR21, width),
        aflw21_weight=batch.aflw21_weight[..., list(MIRROR21)],
        skin=batch.skin.flip(-1),
        truth=None if batch.truth is None else mirrored_truth(batch.truth, width),
    )


def mirrored_truth(truth: FaceTruth, width: int) -> FaceTruth:
    """Return the truth of crops `width` pixels wide after they were flipped left to right."""
    normals, albedo = truth.normals, truth.albedo
    if normals is not None:
        normals = normals.flip(-1) * normals.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
    return FaceTruth(
        face=mirrored_face(truth.face, width),
        normals=normals,
        albedo=None if albedo is None else albedo.flip(-1),
        visible68=truth.visible68[..., list(MIRROR68)],
        visible478=truth.visible478[..., mirror478().to(truth.visible478.device)],
        surface200=_mirrored_points(truth.surface200, MIRROR200, width),
        visible200=truth.visible200[..., list(MIRROR200)],
    )


def mirrored_face(face: ExplainedFace, width: int) -> ExplainedFace:
    """Return the explained face of a picture `width` pixels wide after a flip left to right.

    The face must use the default head: its texture space is symmetric about u = 0.5.
    """
    landmarks = face.landmarks
    if landmarks is not None:
        order = mirror_of_dense(landmarks.points.shape[-2])
        landmarks = PredictedLandmarks(
            _mirrored_points(landmarks.points, tuple(order), width),
            landmarks.sigma[..., order],
            None if landmarks.visible is None else landmarks.visible[..., order],
        )
    return ExplainedFace(
        mirrored_coefficients(face.coefficients),
        mirrored_camera(face.camera, width),
        mirrored_light(face.light),
        albedo_map=_mirrored_map(face.albedo_map),
        displacement_map=_mirrored_map(face.displacement_map),
        light_map=_mirrored_map(face.light_map),
        depth=None if face.depth is None else face.depth.flip(-1),
        landmarks=landmarks,
    )


def mirrored_coefficients(given: FaceCoefficients) -> FaceCoefficients:
    """Return the coefficients of the default head that make the mirror image of a face."""
    identity = identity_mirror(given.identity.shape[-1]).to(given.identity)
    gaze = given.gaze.flip(-2) * given.gaze.new_tensor([-1.0, 1.0])
    return FaceCoefficients(
        given.identity @ identity.T,
        given.expression[..., list(mirrored_expressions())],
        gaze,
        given.albedo,  # every mode is symmetric
    )


def mirrored_camera(camera: PerspectiveCamera, width: int) -> PerspectiveCamera:
    """Return the camera for which the mirrored head gives the flipped picture."""
    flip = camera.world_to_camera.new_tensor([-1.0, 1.0, 1.0, 1.0])
    x, y = camera.principal_point.unbind(-1)
    return PerspectiveCamera(
        camera.focal_pixels,
        torch.stack([width - x, y], -1),
        flip[:, None] * camera.world_to_camera * flip,
        camera.image_size,
    )


def mirrored_light(light: SphericalHarmonicsLight) -> SphericalHarmonicsLight:
    """Return the light of the flipped picture."""
    signs = light.coefficients.new_tensor(_ODD_IN_X)
    return SphericalHarmonicsLight(light.coefficients * signs[:, None])


@cache
def mirror478() -> Int[Tensor, "478"]:
    """Return the index of each dense point's mirror image."""
    return FaceMeshTopology.from_pretrained().mirror


def mirror_of_dense(count: int) -> list[int]:
    """Return the mirror images of the 478 dense points, or of these and the 200 surface points.

    Raises:
        ValueError: another count.
    """
    dense = mirror478().tolist()
    if count == len(dense):
        return dense
    if count == len(dense) + len(MIRROR200):
        return dense + [len(dense) + index for index in MIRROR200]
    raise ValueError(f"Got {count} predicted landmarks; allowed are 478 and 678.")


@cache
def identity_mirror(modes: int) -> Float[Tensor, "I I"]:
    """Return the matrix that maps identity coefficients of the default head to their mirror image.

    Not every mode is symmetric, but together the modes also span mirrored faces: the mirrored modes
    are linear combinations of the modes to within a tenth of a millimetre.
    """
    model = MorphableModel.from_pretrained(identity_modes=modes)
    assert model.mirror is not None
    basis = model.identity_basis.double()
    flipped = basis[:, model.mirror] * basis.new_tensor([-1.0, 1.0, 1.0])
    return torch.linalg.lstsq(basis.flatten(1).T, flipped.flatten(1).T).solution.float()


def _mirrored_points(
    points: Float[Tensor, "*batch K 2"], order: tuple[int, ...], width: int
) -> Float[Tensor, "*batch K 2"]:
    """Return image points of a flipped picture, each at the index of its mirror image."""
    x, y = points[..., list(order), :].unbind(-1)
    return torch.stack([width - x, y], -1)


def _mirrored_map(given: UVMap | None) -> UVMap | None:
    return None if given is None else map_tensors(lambda values: values.flip(-1), given)
