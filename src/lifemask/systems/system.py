"""What the trainer and the judge ask of a system."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.morphable.explained_face import ExplainedFace

PANELS = ("photo", "overlay", "clay", "albedo", "relit")
"""The pictures that `System.draw` makes of each face, from left to right."""


class System(nn.Module, ABC):
    """A method that explains framed faces: all interface; its children are final.

    Its parameters are what training changes; what only helps to compute losses (the head, frozen
    networks) is held outside of parameters and of `state_dict`.
    """

    name: ClassVar[str]
    """What `load_system` and recipes call it."""
    loss_names: ClassVar[tuple[str, ...]]
    """All losses it knows; a recipe gives each a weight."""
    crop_size: int
    """Pixels on a side of the crops it looks at."""

    @abstractmethod
    def forward(self, photo: Float[Tensor, "*batch 3 S S"]) -> ExplainedFace:
        """Explain faces.

        Args:
            photo: linear RGB in [0, 1], cut by `lifemask.perception.framing`, `crop_size` wide.
        """

    @abstractmethod
    def losses(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> dict[str, Float[Tensor, "*batch"]]:
        """Return the losses that this batch allows: one value per image, unweighted.

        A batch without truth has fewer of them. An image about which a loss knows nothing has 0.
        """

    @abstractmethod
    def draw(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> Float[Tensor, "*batch panels 3 S S"]:
        """Return one picture per name in `PANELS`, linear RGB in [0, 1], without gradients."""
