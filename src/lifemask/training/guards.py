"""Signs of collapse: constant light, displacement at its limit, albedo far from its prior.

Self-supervised appearance fails in three typical ways. The light becomes constant and the albedo
takes over the shading; the displacement takes over what belongs to the albedo; the product of
albedo and light drifts along its free scale.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.heads import head_texture, known_displacement
from lifemask.training.config import GuardLimits


@dataclass(frozen=True)
class GuardReadings:
    """What the guards watch; None where a system has no such part."""

    shading_spread: float
    """Standard deviation of the shading over visible skin, mean over faces."""
    albedo_drift: float | None
    """Absolute difference of the mean albedo from its prior's, linear RGB."""
    displacement_share: float | None
    """Share of covered texels whose displacement is close to its limit."""


def shading_spread(
    shading: Float[Tensor, "*batch N"], skin: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch"]:
    """Return the standard deviation of shading over skin; 0 where no skin is seen.

    Args:
        shading: luminance of the shading at points or pixels.
        skin: weights, 0 where there is no visible skin.
    """
    total = skin.sum(-1).clamp(min=1e-6)
    mean = (shading * skin).sum(-1) / total
    return (((shading - mean.unsqueeze(-1)) ** 2 * skin).sum(-1) / total).sqrt()


def saturated_share(
    displacement: Float[Tensor, "*batch R R"], limit: float, level: float
) -> Float[Tensor, "*batch"]:
    """Return the share of texels with |displacement| above `level` times its `limit`, metres."""
    return (displacement.abs() > level * limit).to(displacement).mean((-2, -1))


def albedo_drift(
    albedo: Float[Tensor, "*batch 3 R R"], prior: Float[Tensor, "3 S S"]
) -> Float[Tensor, ""]:
    """Return how far the mean albedo of a batch lies from the prior's mean, linear RGB."""
    return (albedo.mean() - prior.mean()).abs()


@torch.no_grad()
def read_guards(face: ExplainedFace, head: MorphableModel, limits: GuardLimits) -> GuardReadings:
    """Return the readings of what a system predicts for a batch.

    Args:
        face: the predictions, with at least one batch axis.
        head: their model.
        limits: say what counts as a saturated texel.
    """
    vertices = head.vertices(face.coefficients)
    normals = light_axes_from_camera(
        vertex_normals(face.camera.to_camera(vertices), head.triangles)
    )
    skin = head.regions["face"] * (normals[..., 2] > 0.2)
    shading = face.light.shade(normals).mean(-1)
    drift, share = None, None
    albedo = head_texture(head, face)
    if head.albedo is not None and albedo is not None:
        drift = float(albedo_drift(albedo, head.albedo.mean_log.exp()))
    if face.displacement_map is not None:
        displacement = known_displacement(face.displacement_map)
        covered = face.displacement_map.coverage.mean((-2, -1)).clamp(min=1e-6)
        saturated = saturated_share(
            displacement, limits.displacement_metres, limits.displacement_level
        )
        share = float((saturated / covered).mean())
    return GuardReadings(float(shading_spread(shading, skin).mean()), drift, share)


def tripped(readings: GuardReadings, limits: GuardLimits) -> dict[str, str]:
    """Return what is wrong, by guard; empty when all is well."""
    wrong: dict[str, str] = {}
    if not readings.shading_spread >= limits.shading_spread:
        wrong["shading_spread"] = (
            f"the light has become constant: shading over skin varies by "
            f"{readings.shading_spread:.4f}, at least {limits.shading_spread} is expected; "
            "strengthen what ties the light to the photo, or hold the albedo back"
        )
    if readings.albedo_drift is not None and not readings.albedo_drift <= limits.albedo_drift:
        wrong["albedo_drift"] = (
            f"the albedo has drifted by {readings.albedo_drift:.3f} from its prior, at most "
            f"{limits.albedo_drift} is expected; raise the weight of the albedo's prior"
        )
    share = readings.displacement_share
    if share is not None and not share <= limits.displacement_share:
        wrong["displacement_share"] = (
            f"{share:.1%} of the displacement is at its limit, at most "
            f"{limits.displacement_share:.0%} is expected; raise the weights that keep it small"
        )
    return wrong
