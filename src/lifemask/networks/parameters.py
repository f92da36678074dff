"""From the raw outputs of a network to a face: coefficients, camera and light.

Nothing here learns. Raw outputs of zero mean the mean face as the frame shows it: frontal, at the
standard distance, in white light with a shading of 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_columns
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.framing import crop_camera, face_frame

STANDARD_DISTANCE_METRES = 0.9
"""Distance of an untrained prediction: that of the fit's prior."""

LIMITS = {"identity": 4.0, "albedo": 4.0, "gaze": 1.0, "scale": 2.0, "distance": 1.2}
"""Largest difference from the mean face, in the units of the outputs (logarithms for scale and
distance). It keeps every prediction a possible head, whatever the network says."""

SCALES = {
    "identity": 1.0,
    "expression": 0.3,
    "gaze": 0.3,
    "albedo": 1.0,
    "light": 0.3,
    "rotation": 0.5,
    "translation": 0.1,
    "scale": 0.2,
    "distance": 0.3,
}
"""What one unit of each kind of output stands for. It is about the spread among faces, so that all
outputs are of the order of one and learn at the same pace."""


_MOST = 0.999
"""Largest part of a limit that `ParameterDecoder.raw` returns: the outputs of 1 are infinite."""


@dataclass(frozen=True)
class HeadSizes:
    """How many numbers of each kind describe a face."""

    identity: int
    """Identity modes."""
    expression: int
    """Expression weights."""
    albedo: int
    """Albedo modes."""

    @classmethod
    def of(cls, model: MorphableModel) -> "HeadSizes":
        """Return the sizes of a model."""
        neutral = model.neutral()
        return cls(len(neutral.identity), len(neutral.expression), len(neutral.albedo))


class ParameterDecoder(nn.Module):
    """Decodes raw outputs in float32; holds how a frame shows the mean face."""

    translation: Float[Tensor, "2"]
    """Where the head's origin of an untrained prediction is seen, in units of the crop."""
    scale_per_metre: Float[Tensor, ""]
    """Scale of an untrained prediction, in units of the crop."""

    counts: dict[str, int]
    """How many raw numbers each kind has, in their order."""

    def __init__(self, sizes: HeadSizes, *, crop_size: int, standard: Viewpoint) -> None:
        """Prepare the decoding.

        Args:
            sizes: how many numbers describe a face.
            crop_size: pixels on a side of the crops.
            standard: how a crop shows the mean face, in the crop's pixels.
        """
        super().__init__()
        self.crop_size = crop_size
        fixed = {"gaze": 4, "light": 27, "rotation": 6, "translation": 2, "scale": 1, "distance": 1}
        self.counts = {name: {**vars(sizes), **fixed}[name] for name in SCALES}
        self.register_buffer("translation", standard.translation / crop_size)
        self.register_buffer("scale_per_metre", standard.pixels_per_metre / crop_size)

    @classmethod
    def for_model(cls, model: MorphableModel, *, crop_size: int) -> "ParameterDecoder":
        """Return the decoder for a model that has dense landmarks."""
        standard = framed_mean_face(model, crop_size)
        return cls(HeadSizes.of(model), crop_size=crop_size, standard=standard)

    @property
    def outputs(self) -> int:
        """How many raw numbers make a face."""
        return sum(self.counts.values())

    def forward(
        self,
        raw: Float[Tensor, "*batch N"],
        *,
        principal_point: Float[Tensor, "*batch 2"] | None = None,
    ) -> ExplainedFace:
        """Return the faces that raw outputs stand for.

        Args:
            raw: `outputs` numbers for each face.
            principal_point: of the crops' cameras, in pixels; by default the middle.
        """
        raw = raw.float()
        split = raw.split(list(self.counts.values()), dim=-1)
        parts = {name: part * SCALES[name] for name, part in zip(SCALES, split, strict=True)}
        for name, limit in LIMITS.items():
            parts[name] = limit * torch.tanh(parts[name] / limit)
        middle = raw.new_full((*raw.shape[:-1], 2), self.crop_size / 2)
        camera = camera_of(
            self._viewpoint(parts),
            middle if principal_point is None else principal_point,
            (self.crop_size, self.crop_size),
        )
        light = parts["light"].unflatten(-1, (9, 3))
        white = SphericalHarmonicsLight.ambient().coefficients.to(light)
        coefficients = FaceCoefficients(
            parts["identity"],
            clamped_straight_through(parts["expression"]),
            parts["gaze"].unflatten(-1, (2, 2)),
            parts["albedo"],
        )
        return ExplainedFace(coefficients, camera, SphericalHarmonicsLight(light + white))

    def raw(self, face: ExplainedFace) -> Float[Tensor, "*batch N"]:
        """Return raw outputs that stand for faces: `forward` gives the same faces again.

        Two things are lost: what lies beyond `LIMITS` comes back as 99.9 % of the limit, and the
        principal point is not among the outputs (the viewpoint stays the same).

        Args:
            face: in crop pixels; maps, depth and landmarks are left out.
        """
        given, view = face.coefficients, viewpoint_of(face.camera)
        columns = view.rotation[..., :2].transpose(-1, -2)
        light = face.light.coefficients
        white = SphericalHarmonicsLight.ambient().coefficients.to(light)
        scale = view.pixels_per_metre / (self.scale_per_metre * self.crop_size)
        parts = {
            "identity": given.identity,
            "expression": given.expression,
            "gaze": given.gaze.flatten(-2),
            "albedo": given.albedo,
            "light": (light - white).flatten(-2),
            "rotation": (columns - _frontal_columns(columns)).flatten(-2),
            "translation": view.translation / self.crop_size - self.translation,
            "scale": scale.log().unsqueeze(-1),
            "distance": (view.distance / STANDARD_DISTANCE_METRES).log().unsqueeze(-1),
        }
        for name, limit in LIMITS.items():
            parts[name] = limit * torch.atanh((parts[name] / limit).clamp(-_MOST, _MOST))
        return torch.cat([parts[name] / SCALES[name] for name in SCALES], dim=-1)

    def _viewpoint(self, parts: dict[str, Tensor]) -> Viewpoint:
        rotation = parts["rotation"].unflatten(-1, (2, 3))
        return Viewpoint(
            matrix_from_columns(_frontal_columns(rotation) + rotation),
            (self.translation + parts["translation"]) * self.crop_size,
            self.scale_per_metre * self.crop_size * parts["scale"].squeeze(-1).exp(),
            STANDARD_DISTANCE_METRES * parts["distance"].squeeze(-1).exp(),
        )


def framed_mean_face(model: MorphableModel, crop_size: int) -> Viewpoint:
    """Return how the frame shows the mean face from straight ahead at the standard distance.

    Raises:
        ValueError: the model has no dense landmarks.
    """
    if model.dense478 is None:
        raise ValueError("This model has no dense landmarks, so its faces cannot be framed.")
    points = model.dense478.points(model.mean, model.triangles)
    camera = PerspectiveCamera(
        points.new_tensor(1000.0),
        points.new_tensor([0.0, 0.0]),
        rigid_transform(
            points.new_tensor(FRONTAL_HEAD_TO_CAMERA),
            points.new_tensor([0.0, 0.0, STANDARD_DISTANCE_METRES]),
        ),
        (crop_size, crop_size),
    )
    frame = face_frame(camera.project(points))
    return viewpoint_of(crop_camera(camera, frame, crop_size))


def _frontal_columns(like: Tensor) -> Float[Tensor, "2 3"]:
    """Return the first two columns of a frontal head's rotation."""
    return like.new_tensor(FRONTAL_HEAD_TO_CAMERA)[:, :2].T


def clamped_straight_through(values: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
    """Return values clamped to [0, 1]; gradients pass unclamped, so that no value gets stuck."""
    return values + (values.clamp(0, 1) - values).detach()
