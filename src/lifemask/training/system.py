"""The contract of a system: what it predicts, what it learns from, in which phases."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.training.config import Phase

Losses = Mapping[str, Float[Tensor, "..."]]
"""One value per image (or per clip) of each loss, unweighted; batches differ in their axes."""


@dataclass(frozen=True)
class FramedFaces:
    """What a system gets of faces: framed photos, and landmarks or a prediction if it uses them."""

    photo: Float[Tensor, "*batch 3 S S"]
    """Linear RGB in [0, 1], cut by `lifemask.perception.framing`. For systems with `uses_frames`
    the last batch axis holds the frames of one person."""
    landmarks: Float[Tensor, "*batch 478 2"] | None = None
    """Dense landmarks in crop pixels, as perception measures them."""
    landmark_weight: Float[Tensor, "*batch 478"] | None = None
    """0 (unknown) to 1 for each of them."""
    previous: ExplainedFace | None = None
    """The prediction of the pass before, for systems with feedback; None in the first pass. For systems
    that refine: the face to refine."""
    skin: Float[Tensor, "*batch S S"] | None = None
    """How far each pixel shows bare skin of this face, 0 to 1, for systems that refine."""


class System(nn.Module, ABC):
    """A method that explains framed faces. This class is the interface; its children are final.

    Training changes its parameters. The head model and frozen networks are neither in `parameters()`
    nor in `state_dict()`; see `lifemask.networks.frozen`.

    Only networks may run in another precision than float32. A system calls them by `run_network`.
    """

    name: ClassVar[str]
    """Its name in the registry, in recipes and in files."""
    phases: ClassVar[Mapping[str, Phase]]
    """The phases of a step by name, with all losses and their weights; recipes may change them."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """Starts of the names of weights that only training needs, such as those of a critic. They are
    neither averaged nor released."""
    former_names: ClassVar[Mapping[str, str]] = {}
    """Start of a weight's name in earlier files -> its start today."""
    first_weights: ClassVar[tuple[str, ...]] = ()
    """Assets whose weights an untrained system starts from; the card of its weights credits them."""
    uses_landmarks: ClassVar[bool] = False
    """Whether it uses landmarks beside the photo."""
    uses_frames: ClassVar[bool] = False
    """Whether it gets several frames of one person together."""
    solves: ClassVar[bool] = False
    """Whether its face explains the points that it predicts as well as a fit would."""
    refines: ClassVar[bool] = False
    """Whether it is a second stage: it adds detail to the face of another system or of a fit."""
    passes: int = 1
    """Number of passes of one prediction; each gets the one before as `FramedFaces.previous`."""
    crop_size: int
    """Pixels on a side of its crops."""
    model: MorphableModel
    """The head model of its faces."""
    precision: torch.dtype | None = None
    """Precision of its networks under autocast; None is float32. The trainer sets it."""

    @abstractmethod
    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; cameras are in crop pixels."""

    @abstractmethod
    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch, by name.

        The system calls its networks itself; `lifemask.training.passes.predict_batches` predicts all
        batches together. Clips keep their axis of frames. A batch without truth has fewer losses. A
        loss that knows nothing about an image is 0 for it.

        Args:
            phase: one of `phases`.
            batches: one from each source.
        """

    def faces_to_refine(self, batch: FaceBatch) -> ExplainedFace:
        """Return the faces that a system that refines gets in training: the true smooth heads.

        Raises:
            ValueError: the batch has no truth.
        """
        if batch.truth is None:
            raise ValueError(f"{self.name} refines faces, and these photos have no known face.")
        return replace(
            batch.truth.face, albedo_map=None, displacement_map=None, light_map=None, depth=None
        )

    def use_onnx_runtime(self, weights: Sequence[str]) -> None:
        """Run the convolutions of predictions in ONNX Runtime, if the system can; without gradients.

        Args:
            weights: the assets that hold them.

        Raises:
            ImportError: onnxruntime is not installed.
        """

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | None:
        """Return what the layers that never learn see in crops; None if the system has no such layers.

        A system that has some uses `FaceBatch.features` in place of them where a batch has it.
        """
        return None

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the layers of `frozen_features`."""
        shared = [part.inner for part in self.modules() if isinstance(part, FrozenMaps)]
        own = [parameter for parameter in self.parameters() if not parameter.requires_grad]
        return own + [parameter for backbone in shared for parameter in backbone.parameters()]

    def run_network(self, network: Callable[..., Any], *inputs: Any) -> Any:
        """Return the output of a network in the system's precision, as float32."""
        device = next((t.device for t in inputs if isinstance(t, Tensor)), torch.device("cpu"))
        with torch.autocast(device.type, self.precision, enabled=self.precision is not None):
            output = network(*inputs)
        return map_tensors(lambda t: t.float() if t.is_floating_point() else t, output)

    def released_state(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that predictions need."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith(self.training_only or ("\0",))
        }
