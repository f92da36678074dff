"""Smooth heads drawn as networks for skin see them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.networks.relief_network import head_mask
from lifemask.rendering import render
from lifemask.rendering.filters import gaussian_blur

_INSIDE = ("eyeball_left", "eyeball_right", "teeth", "tongue", "mouth_bag")


def drawn_regions(
    model: MorphableModel, vertices: Float[Tensor, "B V 3"], camera: PerspectiveCamera
) -> Float[Tensor, "B 6 H W"]:
    """Return images of heads: unit normals, then how far each pixel is face, feature, and inside.

    Features are lids, lips and brows. Inside are eyeballs and the mouth.
    """
    regions = model.regions
    features = torch.stack([regions[name] for name in ("eyes", "lips", "brows")]).amax(0)
    inside = torch.stack([regions[name] for name in _INSIDE]).amax(0)
    colours = torch.stack([regions["face"], features, inside], -1).to(vertices)
    drawn = render(opaque_mesh(model, vertices), camera, vertex_colours=colours)
    return torch.cat([drawn.normals, drawn.albedo], 1)


def blurred_normals(normals: Float[Tensor, "N 3 H W"], sigma: float) -> Float[Tensor, "N 3 H W"]:
    """Return unit normals blurred with a Gaussian of `sigma` pixels; beside the head they stay 0."""
    return F.normalize(blurred(normals, sigma), dim=1, eps=1e-6) * head_mask(normals)


def blurred(images: Float[Tensor, "N C H W"], sigma: float) -> Float[Tensor, "N C H W"]:
    """Return images blurred with a Gaussian of `sigma` pixels; borders are repeated."""
    return gaussian_blur(images.flatten(0, 1), sigma).view_as(images)
