"""Options of a fit, without torch, so that the command line can show them quickly."""

from dataclasses import dataclass
from typing import Literal, get_args

Quality = Literal["fast", "full"]


@dataclass(frozen=True)
class FitConfig:
    """How to fit a face to one photo."""

    quality: Quality = "full"
    """`fast` fits shape to landmarks only, then light and albedo; `full` also fits shape to colours."""
    identity_modes: int = 80
    """Number of identity modes that are fitted."""
    landmark_sigma: float = 0.025
    """Standard deviation of a dense landmark, as a share of the face's size."""
    expression_sigma: float = 0.5
    """Standard deviation of expression weights around the blendshape scores."""
    predicted_sigma_factor: float = 2.0
    """Factor on predicted standard deviations: neighbouring points err in common, so together they
    say less than their number suggests."""
    predicted_least_sigma: float = 0.004
    """Least standard deviation of a predicted point, as a share of the face's size."""
    predicted_expression_sigma: float = 0.2
    """Standard deviation of expression weights around predicted ones."""
    predicted_identity_precision: float = 2.0
    """Precision of identity coefficients around predicted ones."""
    predicted_identity_modes: float = 25.0
    """Mode at which a predicted identity coefficient counts by 1/e: the later ones are mostly noise."""
    solved_identity_precision: float = 4.0
    """Precision of identity coefficients around those of a prediction that explains its points."""
    identity_precision: float = 1.0
    """Strength of the prior on identity."""
    distance_metres: float = 0.9
    """Expected distance between camera and head if the focal length is not known."""
    distance_log_sigma: float = 0.35
    """Spread of the logarithm of that distance."""
    photometric_iterations: int = 8
    """Gauss-Newton steps in which colours change the shape; none in a fast fit."""
    photometric_sigma: float = 1.5
    """Standard deviation of a vertex's log colour; large, because neighbours are correlated."""

    def __post_init__(self) -> None:
        if self.quality not in get_args(Quality):
            raise ValueError(
                f"Got quality={self.quality!r}. Known: {', '.join(get_args(Quality))}."
            )

    @classmethod
    def preset(cls, quality: Quality) -> "FitConfig":
        """Return the released recipe of a quality.

        The photo's light shifts landmarks by one or two millimetres, so a fast fit stays closer to
        the mean person.

        Raises:
            ValueError: the quality is unknown.
        """
        if quality != "fast":
            return cls(quality=quality)
        return cls(
            quality="fast",
            landmark_sigma=0.04,
            identity_precision=2.0,
            predicted_sigma_factor=1.5,
            predicted_identity_precision=4.0,
        )
