"""Options of a fit, free of torch so that the command line can show them quickly."""

from dataclasses import dataclass
from typing import Literal

Quality = Literal["fast", "full"]


@dataclass(frozen=True)
class FitConfig:
    """How to fit a face to one photo."""

    quality: Quality = "full"
    """`fast` takes shape from landmarks alone, then light and albedo; `full` lets colours shape it."""
    identity_modes: int = 80
    """How many identity modes may move."""
    landmark_sigma: float = 0.025
    """Standard deviation of a dense landmark, as a share of the face's size."""
    expression_sigma: float = 0.5
    """How far expression weights may leave the blendshape scores."""
    identity_precision: float = 1.0
    """Strength of the prior on identity."""
    distance_metres: float = 0.9
    """Expected distance between camera and head where the photo does not tell its focal length."""
    distance_log_sigma: float = 0.35
    """Spread of the logarithm of that distance."""
    photometric_iterations: int = 8
    """Gauss-Newton steps in which colours move the shape; a fast fit takes none."""
    photometric_sigma: float = 2.5
    """Standard deviation of a vertex's log colour, raised for the correlation of neighbours."""

    @classmethod
    def preset(cls, quality: Quality) -> "FitConfig":
        """Return the released recipe of a quality.

        Landmarks alone follow the light of the photo by a millimetre or two, so a fast fit keeps
        closer to the mean person.
        """
        if quality == "full":
            return cls()
        return cls(quality="fast", landmark_sigma=0.04, identity_precision=2.0)
