"""From a framed face to all of its numbers at once: coefficients, pose and light."""

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
from lifemask.networks.face_mesh_trunk import CHANNELS, FaceMeshFeatures
from lifemask.perception.framing import crop_camera, face_frame

STANDARD_DISTANCE_METRES = 0.9
"""Distance of the untrained answer: that of the fit's prior."""

LIMITS = {"identity": 4.0, "albedo": 4.0, "gaze": 1.0, "size": 2.0, "distance": 1.2}
"""No answer lies further from the mean face's, in the outputs' units (logarithms for size and
distance): whatever the network says, no head is a monster or has its nose in the camera."""

SCALES = {
    "identity": 1.0,
    "expression": 0.3,
    "gaze": 0.3,
    "albedo": 1.0,
    "light": 0.3,
    "rotation": 0.5,
    "place": 0.1,
    "size": 0.2,
    "distance": 0.3,
}
"""What one unit of each kind of output is worth: about how much faces differ, so that all outputs
are of the order of one and learn at the same pace."""


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


class FaceRegressor(nn.Module):
    """Features, one hidden layer beside them, and linear heads that start at zero.

    The heads read the features directly too: where points lie is linear in them already.

    Untrained it answers every crop with the mean face as the frame shows it: frontal, at the
    standard distance, in white light whose shading is 1.
    """

    place: Float[Tensor, "2"]
    """Where the untrained answer's head origin is seen, in units of the crop."""
    size_per_metre: Float[Tensor, ""]
    """Its size, in units of the crop."""

    def __init__(
        self,
        features: FaceMeshFeatures,
        sizes: HeadSizes,
        *,
        crop_size: int,
        standard: Viewpoint,
        hidden: int = 512,
    ) -> None:
        """Assemble a regressor.

        Args:
            features: maps crops to features.
            sizes: how many numbers to answer.
            crop_size: pixels on a side of the crops.
            standard: how a crop shows the mean face, in the crop's pixels.
            hidden: width of the hidden layer.
        """
        super().__init__()
        self.features = features
        self.sizes = sizes
        self.crop_size = crop_size
        inputs = CHANNELS * features.output_size**2
        self.level = nn.LayerNorm(inputs)
        self.hidden = nn.Sequential(nn.Linear(inputs, hidden), nn.PReLU(hidden))
        counts = {"gaze": 4, "light": 27, "rotation": 6, "place": 2, "size": 1, "distance": 1}
        self._counts = {name: {**vars(sizes), **counts}[name] for name in SCALES}
        self.heads = nn.Linear(inputs + hidden, sum(self._counts.values()))
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)
        self.register_buffer("place", standard.translation / crop_size)
        self.register_buffer("size_per_metre", standard.pixels_per_metre / crop_size)

    @classmethod
    def untrained(
        cls,
        model: MorphableModel,
        features: FaceMeshFeatures,
        *,
        crop_size: int,
        hidden: int = 512,
    ) -> "FaceRegressor":
        """Return a regressor for a model that has dense landmarks; it answers with its mean face."""
        return cls(
            features,
            HeadSizes.of(model),
            crop_size=crop_size,
            standard=framed_mean_face(model, crop_size),
            hidden=hidden,
        )

    def forward(
        self,
        photo: Float[Tensor, "*batch 3 S S"],
        *,
        principal_point: Float[Tensor, "*batch 2"] | None = None,
    ) -> ExplainedFace:
        """Explain framed faces.

        Args:
            photo: linear RGB in [0, 1], `crop_size` wide.
            principal_point: of the crops' cameras, in pixels; by default the middle.
        """
        batch = photo.shape[:-3]
        features = self.features(photo.reshape(-1, *photo.shape[-3:]))
        features = self.level(features.flatten(1))
        output = self.heads(torch.cat([features, self.hidden(features)], dim=-1))
        output = output.reshape(*batch, -1)
        split = output.split(list(self._counts.values()), dim=-1)
        parts = {name: part * SCALES[name] for name, part in zip(SCALES, split, strict=True)}
        for name, limit in LIMITS.items():
            parts[name] = limit * torch.tanh(parts[name] / limit)
        light = parts["light"].unflatten(-1, (9, 3))
        middle = output.new_full((*batch, 2), self.crop_size / 2)
        camera = camera_of(
            self._viewpoint(parts),
            middle if principal_point is None else principal_point,
            (self.crop_size, self.crop_size),
        )
        return ExplainedFace(
            FaceCoefficients(
                parts["identity"],
                clamped_straight_through(parts["expression"]),
                parts["gaze"].unflatten(-1, (2, 2)),
                parts["albedo"],
            ),
            camera,
            SphericalHarmonicsLight(
                light + SphericalHarmonicsLight.ambient().coefficients.to(light)
            ),
        )

    def _viewpoint(self, parts: dict[str, Tensor]) -> Viewpoint:
        turn = parts["rotation"].unflatten(-1, (2, 3))
        frontal = turn.new_tensor(FRONTAL_HEAD_TO_CAMERA)[:, :2].T
        return Viewpoint(
            matrix_from_columns(frontal + turn),
            (self.place + parts["place"]) * self.crop_size,
            self.size_per_metre * self.crop_size * parts["size"].squeeze(-1).exp(),
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


def clamped_straight_through(values: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
    """Return values clamped to [0, 1]; gradients pass as if they were not, so that none gets stuck."""
    return values + (values.clamp(0, 1) - values).detach()
