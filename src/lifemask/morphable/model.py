"""The default head: identity, expression and gaze coefficients in, vertices in head space out.

Head space: metres, +X the subject's left, +Y up, +Z out of the face, origin midway between the
eyeball centres of the mean head.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifemask.geometry.meshes import Mesh
from lifemask.geometry.precision import single_precision
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.eyeballs import Eyeballs, gaze_rotation, push_outside
from lifemask.morphable.eyes import smooth_maximum
from lifemask.morphable.head_file import read_head
from lifemask.morphable.landmarks import FaceLandmarks, LandmarkEmbedding

_LID_SEAM = 0.00005
"""Smallest gap between closed lids, and width of the smooth transition to it, metres."""
_LASH_TURN = 0.5
"""Share of the turn of lashes on their lids that they keep."""


class MorphableModel(nn.Module):
    """A linear face model on a fixed mesh, with rotating eyeballs and lids that stay outside them.

    All tensors are float32 buffers and follow `.to(device)`.
    """

    mean: Float[Tensor, "V 3"]
    """Mean neutral head, metres."""
    identity_basis: Float[Tensor, "I V 3"]
    """Displacement in metres per standard deviation."""
    expression_basis: Float[Tensor, "E V 3"]
    """Displacement in metres at weight 1; eyeLook* move only the lids."""
    triangles: Int[Tensor, "T 3"]
    """Counter-clockwise from outside; two for each quad of `quads`, in its order."""
    quads: Int[Tensor, "Q 4"]
    """The same surface in quads: (0, 1, 2) and (0, 2, 3) are the triangles."""
    uv: Float[Tensor, "U 2"]
    """Texture coordinates in [0, 1], v down; islands mirror about u = 0.5."""
    uv_triangles: Int[Tensor, "T 3"]
    """Indices into `uv` of the corners of `triangles`."""
    uv_quads: Int[Tensor, "Q 4"]
    """Indices into `uv` of the corners of `quads`."""
    mirror: Int[Tensor, "V"] | None
    """The vertex on the other side."""
    is_pretrained: bool = False
    """Whether it is the head that ships with the package."""

    def __init__(
        self,
        *,
        mean: Float[Tensor, "V 3"],
        identity_basis: Float[Tensor, "I V 3"],
        expression_basis: Float[Tensor, "E V 3"],
        expression_names: tuple[str, ...],
        triangles: Int[Tensor, "T 3"],
        uv: Float[Tensor, "U 2"],
        uv_triangles: Int[Tensor, "T 3"],
        quads: Int[Tensor, "Q 4"] | None = None,
        uv_quads: Int[Tensor, "Q 4"] | None = None,
        mirror: Int[Tensor, "V"] | None = None,
        regions: dict[str, Float[Tensor, "V"]] | None = None,
        landmarks: FaceLandmarks | None = None,
        albedo: AlbedoModel | None = None,
        eyeballs: Eyeballs | None = None,
        vertex_parts: dict[str, tuple[int, int]] | None = None,
        triangle_parts: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """Store the tensors as buffers; `HeadParts` describes all arguments.

        Raises:
            ValueError: the number of names is wrong, or a model with eyeballs has no blinks.
        """
        super().__init__()
        if len(expression_names) != len(expression_basis):
            raise ValueError(
                f"{len(expression_basis)} expressions came with {len(expression_names)} names: "
                "give one name for each."
            )
        tensors = {
            "mean": mean,
            "identity_basis": identity_basis,
            "expression_basis": expression_basis,
            "triangles": triangles,
            "uv": uv,
            "uv_triangles": uv_triangles,
            "quads": quads,
            "uv_quads": uv_quads,
            "mirror": mirror,
        }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)
        self.expression_names = expression_names
        blinks = ("eyeBlinkLeft", "eyeBlinkRight")
        self._blink = [expression_names.index(n) for n in blinks if n in expression_names]
        if eyeballs is not None and len(self._blink) < 2:
            raise ValueError(f"A model with eyeballs needs the expressions {blinks}.")
        self.vertex_parts = vertex_parts or {}
        self.triangle_parts = triangle_parts or {}
        self.albedo = albedo
        self._region_names = tuple(regions or {})
        for name, weight in (regions or {}).items():
            self.register_buffer(f"_region_{name}", weight, persistent=False)
        self._eyeball_fields: tuple[str, ...] = ()
        if eyeballs is not None:
            self._eyeball_fields = tuple(vars(eyeballs))
            for name, tensor in vars(eyeballs).items():
                self.register_buffer(f"_eyeball_{name}", tensor, persistent=False)
        self._landmark_fields: dict[str, bool] = {}
        for name, value in vars(landmarks or FaceLandmarks()).items():
            self._landmark_fields[name] = value is not None
            if isinstance(value, LandmarkEmbedding):
                for field, tensor in vars(value).items():
                    self.register_buffer(f"_{name}_{field}", tensor, persistent=False)
            elif value is not None:
                self.register_buffer(f"_{name}", value, persistent=False)

    @classmethod
    @single_precision()
    def from_pretrained(cls, *, identity_modes: int = 100) -> "MorphableModel":
        """Load the head that ships with this package.

        Args:
            identity_modes: how many of the most important identity modes to keep.

        Raises:
            ValueError: the head has fewer modes.
        """
        model = cls(**vars(read_head(identity_modes=identity_modes)))
        model.is_pretrained = True
        return model

    @property
    def regions(self) -> dict[str, Float[Tensor, "V"]]:
        """Weights in [0, 1] of the parts of the head, smooth at their borders."""
        return {name: getattr(self, f"_region_{name}") for name in self._region_names}

    @property
    def eyeballs(self) -> Eyeballs | None:
        """The eyeballs, or None for a model without."""
        if not self._eyeball_fields:
            return None
        return Eyeballs(
            **{name: getattr(self, f"_eyeball_{name}") for name in self._eyeball_fields}
        )

    def _embedding(self, name: str) -> LandmarkEmbedding | None:
        if not self._landmark_fields[name]:
            return None
        fields = ("triangle_index", "barycentric", "weight")
        return LandmarkEmbedding(*(getattr(self, f"_{name}_{field}") for field in fields))

    @property
    def landmarks68(self) -> LandmarkEmbedding | None:
        """The 68 points that are fixed on the surface; None if they are not known."""
        return self._embedding("landmarks68")

    @property
    def landmarks68_outline(self) -> LandmarkEmbedding | None:
        """The 68 iBUG points of a frontal face, whose jaw slides; None if they are not known."""
        return self._embedding("landmarks68_outline")

    @property
    def aflw21(self) -> LandmarkEmbedding | None:
        """AFLW's 21 points; None if they are not known."""
        return self._embedding("aflw21")

    @property
    def dense478(self) -> LandmarkEmbedding | None:
        """The 478 points of MediaPipe's face mesh; None if they are not known."""
        return self._embedding("dense478")

    @property
    def surface200(self) -> LandmarkEmbedding | None:
        """200 points where the dense points have gaps, in mirrored pairs; None if not known."""
        return self._embedding("surface200")

    @property
    def contours(self) -> Int[Tensor, "17 L"] | None:
        """Vertices among which the jaw points slide; -1 pads; None if they are not known."""
        return getattr(self, "_contours", None)

    def neutral(self) -> FaceCoefficients:
        """Return the coefficients of the neutral mean face, without batch axes."""
        albedo = 0 if self.albedo is None else len(self.albedo.basis_log)
        zeros = self.mean.new_zeros
        return FaceCoefficients(
            zeros(len(self.identity_basis)),
            zeros(len(self.expression_basis)),
            zeros(2, 2),
            zeros(albedo),
        )

    def vertices(self, coefficients: FaceCoefficients) -> Float[Tensor, "*batch V 3"]:
        """Return vertices in head space, metres; differentiable in all coefficients."""
        person = torch.tensordot(coefficients.identity, self.identity_basis, dims=1)
        linear = (
            self.mean
            + person
            + torch.tensordot(coefficients.expression, self.expression_basis, dims=1)
        )
        eyeballs = self.eyeballs
        if eyeballs is None:
            return linear
        centres = self.eyeball_centres(coefficients.identity)
        rotation = gaze_rotation(coefficients.gaze)
        for side in (0, 1):
            centre = centres[..., side, :].unsqueeze(-2)
            turn = rotation[..., side, :, :]
            ball = linear[..., eyeballs.vertices[side], :] - centre
            ball = ball @ turn.transpose(-1, -2) + centre
            blink = coefficients.expression[..., self._blink[side], None, None]
            rows = eyeballs.lids[side]
            close = self._close_lid(person, linear, blink, side)
            lids = linear[..., rows, :] + close
            push = push_outside(lids - centre, turn[..., :, 2]) * eyeballs.lid_weight[:, None]
            linear = linear.index_copy(-2, eyeballs.vertices[side], ball)
            linear = linear.index_add(-2, rows, close + push)

        # Each column of lashes grows from its lid. Expressions turn lashes so far that they would sink
        # into the skin below closed lids.
        def shape(rows: Tensor) -> Tensor:
            moved = linear[..., rows, :] - person[..., rows, :]
            return torch.lerp(self.mean[rows].expand_as(moved), moved, _LASH_TURN)

        grown = shape(eyeballs.lashes) - shape(eyeballs.lash_root)
        return linear.index_copy(-2, eyeballs.lashes, linear[..., eyeballs.lash_anchor, :] + grown)

    def _close_lid(
        self,
        person: Float[Tensor, "*batch V 3"],
        linear: Float[Tensor, "*batch V 3"],
        blink: Float[Tensor, "*batch 1 1"],
        side: int,
    ) -> Float[Tensor, "*batch L 3"]:
        """Return lid displacements that make a blink close this person's eye; lids do not cross."""
        eyeballs = self.eyeballs
        assert eyeballs is not None
        share, margin = eyeballs.lid_share[:, None], eyeballs.margin[side]
        # The blink fits the mean person's eye: it must also close this person's extra opening.
        wider = eyeballs.opening @ person[..., margin, :]
        height = (eyeballs.opening @ linear[..., margin, 1:2]) - blink * wider[..., 1:2]
        apart = smooth_maximum(height, torch.full_like(height, _LID_SEAM), _LID_SEAM) - height
        move = -blink * wider
        return share * torch.cat([move[..., :1], move[..., 1:2] + apart, move[..., 2:]], -1)

    def mesh(self, coefficients: FaceCoefficients) -> Mesh:
        """Return the face as a textured mesh in head space."""
        return Mesh(self.vertices(coefficients), self.triangles, self.uv, self.uv_triangles)

    def eyeball_centres(self, identity: Float[Tensor, "*batch I"]) -> Float[Tensor, "*batch 2 3"]:
        """Return the eyeball centres (left, right) in head space, metres.

        Raises:
            ValueError: the model has no eyeballs.
        """
        eyeballs = self.eyeballs
        if eyeballs is None:
            raise ValueError(
                "This model has no eyeballs, so it has no eyeball centres. Use the default head."
            )
        return eyeballs.centres + torch.tensordot(identity, eyeballs.centre_basis, dims=1)
