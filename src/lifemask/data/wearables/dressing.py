"""Joins all wearables of a person to one mesh with materials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.data.wearables.outfit import Outfit
from lifemask.data.wearables.pictures import Levels, halved
from lifemask.data.wearables.wardrobe import Wardrobe, Wearable
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel

HAIR, CLOTH, SKIN, GLASS = range(4)
"""Kinds of surface; each reflects light in a different way."""


@dataclass(frozen=True)
class Dressed:
    """All wearables of one person as one mesh."""

    vertices: Float[Tensor, "V 3"]
    """Head space, metres."""
    triangles: Int[Tensor, "T 3"]
    """Vertex indices; triangles are two-sided unless `one_sided`."""
    uv: Float[Tensor, "V 2"]
    """Coordinates in the triangle's picture."""
    picture: Int[Tensor, "T"]
    """Index into `pictures`."""
    pictures: tuple[Levels, ...]
    """Luminance relative to its mean, and opacity, at all sizes."""
    colour: Float[Tensor, "V 3"]
    """Linear RGB reflectance where the luminance is 1."""
    opacity: Float[Tensor, "V"]
    """Factor on the picture's opacity."""
    ambient_visibility: Float[Tensor, "V"]
    """Share of the surrounding light that reaches the vertex, 0 to 1."""
    surface: Int[Tensor, "V"]
    """`HAIR`, `CLOTH`, `SKIN` or `GLASS`."""
    specular: Float[Tensor, "V"]
    """Strength of the highlight, 0 to 1."""
    lift: Float[Tensor, "T"]
    """Metres by which a triangle is drawn nearer than it lies, so that the skin does not cut it."""
    one_sided: Bool[Tensor, "T"]
    """Whether only the outside is drawn: true for bodies and clothes (closed), not for cards."""
    casts: Bool[Tensor, "T"]
    """Whether the triangle casts the lamp's shadow on the head."""
    kind: tuple[str, ...]
    """Kind of wearable for each picture."""
    skin_cover: Float[Tensor, "V_head"]
    """How far hair hides the head's skin, 0 to 1; hidden skin should have `hair_colour`."""
    skin_ambient_visibility: Float[Tensor, "V_head"]
    """Share of the surrounding light that passes hair, hat and glasses to the head's skin."""
    hair_colour: Float[Tensor, "3"]
    """Linear RGB of the hair."""
    own_lashes: bool
    """Whether the head's own lashes should be drawn."""

    def skin_tinted(self, albedo: Float[Tensor, "V_head 3"]) -> Float[Tensor, "V_head 3"]:
        """Return reflectances of the head's vertices with hair's colour where hair covers them."""
        share = self.skin_cover[:, None]
        return albedo * (1 - share) + share * self.hair_colour


def worn(
    item: Wearable,
    model: MorphableModel,
    vertices: Float[Tensor, "*batch V_head 3"],
    neutral: Float[Tensor, "*batch V_head 3"],
) -> Float[Tensor, "*batch V 3"]:
    """Return the vertices of a wearable on some heads, head space, metres.

    Args:
        item: wearable of the same head model.
        model: the default head.
        vertices: of the heads.
        neutral: of the same people without expression; hair, hats and glasses follow these.
    """
    head = vertices if item.follows_expression else neutral
    moved = head[..., item.anchor, :] - model.mean[item.anchor]
    return item.position + (moved * item.anchor_weight[..., None]).sum(-2)


def neutral_vertices(
    model: MorphableModel, coefficients: FaceCoefficients
) -> Float[Tensor, "*batch V_head 3"]:
    """Return the same people's heads without expression, with the gaze straight ahead."""
    identity = coefficients.identity
    return model.mean + torch.tensordot(identity, model.identity_basis, dims=1)


def dress(
    outfit: Outfit,
    wardrobe: Wardrobe,
    model: MorphableModel,
    vertices: Float[Tensor, "V_head 3"],
    neutral: Float[Tensor, "V_head 3"],
    *,
    skin_colour: Float[Tensor, "3"] | None = None,
    seed: int = 0,
) -> Dressed:
    """Return an outfit on one head.

    Args:
        outfit: the names and colours of the wearables.
        wardrobe: the wearables of the head model.
        model: the default head.
        vertices: of the person's head, head space, metres.
        neutral: the same without expression, from `neutral_vertices`.
        skin_colour: linear RGB reflectance of neck and chest; required with clothes.
        seed: of the cloth's grain.

    Raises:
        ValueError: there are clothes but no `skin_colour`.
    """
    layers = _layers(outfit, wardrobe, skin_colour, seed)
    pieces = [_piece(layer.item, outfit, model, vertices, neutral) for layer in layers]
    sizes = [len(points) for points in pieces]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    triangles = [layer.item.triangles + start for layer, start in zip(layers, starts, strict=True)]
    counts = [len(corners) for corners in triangles]
    like = vertices.new_zeros
    cover, visibility = _over_skin(layers, like(len(vertices)))
    closed = [layer.item.kind in _BODY for layer in layers]
    return Dressed(
        vertices=torch.cat([*pieces, like(0, 3)]),
        triangles=torch.cat([*triangles, like(0, 3).long()]),
        uv=torch.cat([*(layer.item.uv for layer in layers), like(0, 2)]),
        picture=_spread(range(len(layers)), counts, like(0).long()),
        pictures=tuple(layer.picture for layer in layers),
        colour=_spread([layer.colour for layer in layers], sizes, like(0, 3)),
        opacity=_spread([layer.opacity for layer in layers], sizes, like(0)),
        ambient_visibility=torch.cat(
            [*(layer.item.ambient_visibility for layer in layers), like(0)]
        ),
        surface=_spread([layer.surface for layer in layers], sizes, like(0).long()),
        specular=_spread([layer.specular for layer in layers], sizes, like(0)),
        lift=_spread([layer.lift for layer in layers], counts, like(0)),
        one_sided=_spread(closed, counts, like(0).bool()),
        casts=torch.cat([*(layer.item.casts for layer in layers), like(0).bool()]),
        kind=tuple(layer.item.kind for layer in layers),
        skin_cover=cover,
        skin_ambient_visibility=visibility,
        hair_colour=like(3) + torch.tensor(outfit.hair_colour, device=vertices.device),
        own_lashes=outfit.lashes is None,
    )


_BODY = ("torso", "cloth")
"""Kinds of wearables that rotate with the shoulders and are closed meshes."""


def _piece(
    item: Wearable,
    outfit: Outfit,
    model: MorphableModel,
    vertices: Float[Tensor, "V_head 3"],
    neutral: Float[Tensor, "V_head 3"],
) -> Float[Tensor, "V 3"]:
    """Return the vertices of one wearable of an outfit."""
    points = worn(item, model, vertices, neutral)
    return _turned(points, item.uv[:, 1], outfit.torso_turn) if item.kind in _BODY else points


def _over_skin(
    layers: "Sequence[_Layer]", bare: Float[Tensor, "V_head"]
) -> tuple[Float[Tensor, "V_head"], Float[Tensor, "V_head"]]:
    """Return cover and ambient visibility of the head's skin; `bare` is zero."""
    cover, visibility = bare, bare + 1
    for layer in layers:
        if layer.item.cover is not None:
            cover = torch.maximum(cover, layer.item.cover)
        if layer.item.shade is not None:
            visibility = torch.minimum(visibility, layer.item.shade)
    return cover, visibility


def _spread(
    values: Sequence[float | tuple[float, ...] | Tensor], sizes: Sequence[int], empty: Tensor
) -> Tensor:
    """Return each value repeated for its layer's vertices or triangles, in the type of `empty`."""
    each = [
        torch.as_tensor(value, device=empty.device).to(empty.dtype).expand(size, *empty.shape[1:])
        for value, size in zip(values, sizes, strict=True)
    ]
    return torch.cat([*each, empty])


@dataclass(frozen=True)
class _Layer:
    """One wearable and its material."""

    item: Wearable
    surface: int
    colour: tuple[float, float, float] | Tensor
    picture: Levels
    opacity: float | Tensor = 1.0
    specular: float = 0.0
    lift: float = 0.0


def _layers(
    outfit: Outfit, wardrobe: Wardrobe, skin_colour: Tensor | None, seed: int
) -> list[_Layer]:
    """Return the layers of an outfit; opaque ones are first, so that they hide others early."""
    layers: list[_Layer] = []

    def add(
        name: str,
        surface: int,
        colour: tuple[float, float, float] | Tensor,
        *,
        opacity: float | Tensor = 1.0,
        specular: float = 0.0,
        lift: float = 0.0,
    ) -> None:
        item = wardrobe[name]
        layers.append(_Layer(item, surface, colour, item.picture, opacity, specular, lift))

    if outfit.clothes:
        if skin_colour is None:
            raise ValueError("Clothes show the neck: give dress() a skin_colour, or no clothes.")
        add("torso", SKIN, skin_colour)
        cloth = wardrobe["cloth"]
        picture = halved(fabric(outfit, seed).to(cloth.uv))
        layers.append(_Layer(cloth, CLOTH, outfit.cloth_colour, picture))
    if outfit.hat is not None:
        add(outfit.hat, CLOTH, outfit.hat_colour)
    if outfit.glasses:
        add("glasses_frame", GLASS, outfit.frame_colour, specular=0.6)
    if outfit.hair is not None:
        shown = 1.0 if outfit.hat is None else _below_hat(wardrobe[outfit.hair])
        add(outfit.hair, HAIR, outfit.hair_colour, opacity=shown, specular=outfit.hair_specular)
    if outfit.brows is not None:
        add(outfit.brows, HAIR, outfit.brow_colour, opacity=outfit.brow_strength, lift=0.0015)
    if outfit.lashes is not None:
        dark = (0.012, 0.010, 0.009)
        add(outfit.lashes, HAIR, dark, opacity=outfit.lash_strength, lift=0.001)
    if outfit.glasses:
        add("glasses_lenses", GLASS, outfit.lens_colour, opacity=outfit.lens_opacity, specular=1.0)
    return layers


_HAT_BAND = (0.042, 0.060)
"""Height of the hat's lower edge where z is 0 on the mean head, metres, and its slope along z."""


def _below_hat(hair: Wearable) -> Float[Tensor, "V"]:
    """Return the opacity of hair under a hat; hair that would pass through the hat is left out."""
    height, slope = _HAT_BAND
    above = hair.position[:, 1] - height - slope * hair.position[:, 2]
    return (0.5 - above / 0.004).clamp(0, 1)


_FABRIC_SIZE = (128, 64)


def fabric(outfit: Outfit, seed: int) -> Float[Tensor, "2 h w"]:
    """Return the picture of the cloth: grain, stripes and the edge of the neckline.

    u goes from the front (0) around both sides to the back (1), v away from the neck.
    """
    height, width = _FABRIC_SIZE
    v = ((torch.arange(height) + 0.5) / height)[:, None]
    u = ((torch.arange(width) + 0.5) / width)[None, :]
    noise = torch.randn(height, width, generator=torch.Generator().manual_seed(seed))
    luminance = (outfit.weave * noise).exp()
    if outfit.stripe_colour is not None:
        ratio = sum(outfit.stripe_colour) / max(sum(outfit.cloth_colour), 1e-3)
        wave = (torch.sin(2 * math.pi * outfit.stripes * v) * 4).clamp(-1, 1) / 2 + 0.5
        luminance = luminance * (1 + (ratio - 1) * wave)
    if outfit.jacket is not None:
        luminance = luminance * _suit(outfit.jacket, outfit.tie, u, v)
    edge = neckline(outfit, u)
    alpha = ((v - edge) * height / 1.5 + 0.5).clamp(0, 1)
    return torch.stack([luminance.clamp(0, 8), alpha])


def neckline(outfit: Outfit, u: Float[Tensor, "1 w"]) -> Float[Tensor, "1 w"]:
    """Return the cloth's distance from the neck at each u, in lengths of its texture."""
    deep = outfit.neckline_depth
    if outfit.jacket is not None:
        return (
            0 * u - 0.05 + (0.0 if outfit.tie is not None else (1 - u / 0.16).clamp(min=0) * 0.16)
        )
    front = (1 - u / 0.35).clamp(min=0)
    if outfit.neckline == "v":
        return 0.03 + 0.03 * deep + front * (0.12 + 0.2 * deep)
    if outfit.neckline == "scoop":
        return 0.06 + 0.06 * deep + (1 - (1 - front) ** 2) * (0.05 + 0.14 * deep)
    if outfit.neckline == "high":
        return 0 * u - 0.05
    if outfit.neckline == "shirt":
        return 0.012 + front * (0.06 + 0.16 * deep)
    return 0.015 + 0.05 * deep + 0.02 * front


def _suit(
    jacket: float, tie: float | None, u: Float[Tensor, "1 w"], v: Float[Tensor, "h 1"]
) -> Float[Tensor, "h w"]:
    """Return the brightness of an open jacket, its lapels and a tie, relative to the shirt's."""
    opening = (0.36 - 0.85 * v).clamp(min=0)
    # The shirt's collar is visible above the jacket all around.
    inside = torch.minimum((opening - u) / 0.02, u * 0 + 1) + ((0.05 - v) / 0.015).clamp(min=0)
    worn = (0.5 - inside).clamp(0, 1)
    lapel = ((u - opening - 0.1 + 0.1 * v).abs() / 0.015).clamp(0, 1)
    result = 1 + worn * (jacket * (0.6 + 0.4 * lapel) - 1)
    if tie is not None:
        knotted = ((0.05 + 0.06 * v - u) / 0.015).clamp(0, 1)
        result = result + knotted * (1 - worn) * (tie - 1)
    return result


_TWIST = 0.4
"""Distance from the neck, in lengths of the cloth's texture, over which the body twists."""


def _turned(
    points: Float[Tensor, "V 3"], distance: Float[Tensor, "V"], angle: float
) -> Float[Tensor, "V 3"]:
    """Return shoulders rotated about the neck, which does not move; the part between twists."""
    share = (distance / _TWIST).clamp(0, 1)
    turn = angle * share * share * (3 - 2 * share)
    centre = points.new_tensor([0.0, 0.0, -0.105])
    x, y, z = (points - centre).unbind(-1)
    cosine, sine = turn.cos(), turn.sin()
    return torch.stack([cosine * x + sine * z, y, cosine * z - sine * x], -1) + centre
