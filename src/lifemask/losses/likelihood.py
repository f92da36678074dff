"""Likelihood of measured points under predicted ones with standard deviations."""

from jaxtyping import Float
from torch import Tensor

from lifemask.losses.means import weighted_mean

BALANCE = 0.5
"""Power of the variance by which each point's term is weighted; see `point_likelihood_loss`."""


def point_likelihood_loss(
    predicted: Float[Tensor, "*batch N 2"],
    log_sigma: Float[Tensor, "*batch N"],
    seen: Float[Tensor, "*batch N 2"],
    weight: Float[Tensor, "*batch N"],
    *,
    balance: float = BALANCE,
) -> Float[Tensor, "*batch"]:
    """Return the weighted mean negative log-likelihood of points under isotropic Gaussians.

    The plain likelihood hardly moves points that are still far away, because their standard deviation
    grows first. So each term is multiplied by the variance to the power of `balance`, without
    gradient (Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation", 2022).

    Args:
        predicted: points, in the unit of the standard deviations.
        log_sigma: natural logarithm of the standard deviation along each axis.
        seen: true points in the same unit; any value, also NaN, where the weight is 0.
        weight: 0 (unknown) to 1.
        balance: 0 is the plain likelihood; with 1, points move as with squared distances.
    """
    known = (weight > 0).unsqueeze(-1)
    squared = (predicted - seen.where(known, predicted.detach())).square().sum(-1)
    variance = (2 * log_sigma).exp()
    terms = squared / (2 * variance) + 2 * log_sigma
    return weighted_mean(terms * variance.detach() ** balance, weight)
