"""Loads the shipped wearables: meshes that follow the default head, and their pictures.

`tools/build_wearables.py` makes them from MakeHuman's accessories (CC0; the glasses CC BY 3.0).
"""

import io
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from lifemask.data.wearables.pictures import Levels, halved
from lifemask.geometry.meshes import split_quads
from lifemask.morphable.assets import load_asset
from lifemask.morphable.model import MorphableModel

_UNIT = 2e-5
_LUMINANCE_LIMIT = 2.5


@dataclass(frozen=True)
class Wearable:
    """A textured mesh near the head; each vertex follows four vertices of the head."""

    name: str
    """Kind and style, for example `hair_short01`."""
    position: Float[Tensor, "V 3"]
    """Vertices on the mean head, head space, metres."""
    triangles: Int[Tensor, "T 3"]
    """Vertex indices; both sides are visible."""
    uv: Float[Tensor, "V 2"]
    """Texture coordinates, v down."""
    anchor: Int[Tensor, "V 4"]
    """Vertices of the head that each vertex follows."""
    anchor_weight: Float[Tensor, "V 4"]
    """Weight of each of these head vertices, sum one."""
    ambient_visibility: Float[Tensor, "V"]
    """Share of the surrounding light that reaches the vertex, 0 to 1."""
    picture: Levels
    """Luminance relative to its mean, and opacity in [0, 1], at all sizes."""
    cover: Float[Tensor, "V_head"] | None
    """How far it hides the head's skin, 0 to 1; None if it hides no skin."""
    shade: Float[Tensor, "V_head"] | None
    """Share of the surrounding light that it lets through to the head's skin; None is all."""
    casts: Bool[Tensor, "T"]
    """Which triangles cast shadows: opaque ones at a distance from the skin of the face."""

    @property
    def kind(self) -> str:
        """Kind of wearable: `hair`, `brow`, `lashes`, `glasses`, `hat`, `torso` or `cloth`."""
        return self.name.split("_")[0]

    @property
    def follows_expression(self) -> bool:
        """Whether it moves with the expression, like brows and lashes; others follow the skull."""
        return self.kind in ("brow", "lashes")


@dataclass(frozen=True)
class Wardrobe:
    """All wearables of one head."""

    wearables: dict[str, Wearable]
    """The wearables by name."""

    @classmethod
    def from_pretrained(cls, model: MorphableModel) -> "Wardrobe":
        """Load the shipped wearables, for the default head on its device.

        Raises:
            ValueError: the model is not the default head.
        """
        stored = _stored()
        names = dict.fromkeys(name.split(".")[0] for name in stored)
        if "lashes" not in model.vertex_parts:
            raise ValueError(
                "Wearables fit only the default head: use MorphableModel.from_pretrained()."
            )
        device = model.mean.device
        wearables = {name: _wearable(name, stored, model) for name in names}
        return cls({name: _moved(item, device) for name, item in wearables.items()})

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Return the names of all wearables of one kind."""
        return tuple(name for name, item in self.wearables.items() if item.kind == kind)

    def __getitem__(self, name: str) -> Wearable:
        """Return one wearable.

        Raises:
            KeyError: there is no wearable of that name.
        """
        if name not in self.wearables:
            raise KeyError(f"There is no wearable {name!r}. Known: {sorted(self.wearables)}.")
        return self.wearables[name]


@cache
def _stored() -> dict[str, Tensor]:
    return load_asset("wearables/wearables")


def _wearable(name: str, stored: dict[str, Tensor], model: MorphableModel) -> Wearable:
    def find(field: str) -> Tensor | None:
        return stored.get(f"{name}.{field}")

    def get(field: str) -> Tensor:
        return stored[f"{name}.{field}"]

    on_skin = {field: find(field) for field in ("cover", "shade")}
    triangles, uv = split_quads(get("quads").long()), get("uv").float() / 65535
    picture = _picture(find("luminance"), find("alpha"))
    casts = _opacity(picture[1], uv[triangles]) > 0.5
    if name.split("_")[0] not in _CASTING or name == "glasses_lenses":
        casts = torch.zeros_like(casts)
    return Wearable(
        name,
        get("position").float() * _UNIT,
        triangles,
        uv,
        get("anchor").long(),
        get("anchor_weight").float() / 255,
        get("openness").float() / 255,
        halved(picture),
        casts=casts,
        **{
            field: None if value is None else _on_all_vertices(value.float() / 255, model, empty)
            for (field, value), empty in zip(on_skin.items(), (0.0, 1.0), strict=True)
        },
    )


_CASTING = ("hair", "hat", "glasses")


def _opacity(alpha: Float[Tensor, "H W"], uv: Float[Tensor, "T 3 2"]) -> Float[Tensor, "T"]:
    """Return the mean opacity of triangles, from seven points on each."""
    near, far = 0.7, 0.15
    weight = torch.tensor(
        [
            (1 / 3, 1 / 3, 1 / 3), (near, far, far), (far, near, far), (far, far, near),
            (0.45, 0.45, 0.1), (0.45, 0.1, 0.45), (0.1, 0.45, 0.45),
        ]
    )  # fmt: skip
    size = torch.tensor([alpha.shape[1], alpha.shape[0]])
    texel = ((weight @ uv) * size).long().clamp(min=0).minimum(size - 1)
    return alpha[texel[..., 1], texel[..., 0]].mean(1)


def _picture(luminance: Tensor | None, alpha: Tensor | None) -> Float[Tensor, "2 H W"]:
    """Return the decoded picture; a channel that is not stored is 1 everywhere."""
    planes = [None if data is None else _decoded(data) for data in (luminance, alpha)]
    sizes = [plane.shape for plane in planes if plane is not None]
    size = sizes[0] if sizes else torch.Size((1, 1))
    if planes[0] is not None:
        planes[0] = planes[0] * _LUMINANCE_LIMIT
    return torch.stack([torch.ones(size) if plane is None else plane for plane in planes])


def _decoded(data: Tensor) -> Float[Tensor, "H W"]:
    pixels = np.asarray(Image.open(io.BytesIO(data.numpy().tobytes())), np.float32)
    return torch.from_numpy(pixels / 255)


def _on_all_vertices(
    control: Float[Tensor, "S"], model: MorphableModel, empty: float
) -> Float[Tensor, "V_head"]:
    """Return values of the control vertices, extended to all vertices of the head.

    Each quad of the head has one control vertex.
    """
    count = len(model.mean)
    first, last = model.vertex_parts["skin"]
    quads = model.quads[(model.quads < last).all(1)].cpu()
    own = (quads < len(control)).float()
    value = (control[quads.clamp(max=len(control) - 1)] * own).sum(1) / own.sum(1).clamp(min=1)
    total, share = torch.zeros(count), torch.zeros(count)
    for k in range(4):
        total.index_add_(0, quads[:, k], value)
        share.index_add_(0, quads[:, k], torch.ones_like(value))
    result = torch.where(share > 0, total / share.clamp(min=1), empty)
    result[first : first + len(control)] = control
    return result


def _moved(item: Wearable, device: torch.device) -> Wearable:
    return replace(
        item,
        picture=tuple(level.to(device) for level in item.picture),
        **{
            name: value.to(device)
            for name, value in vars(item).items()
            if isinstance(value, Tensor)
        },
    )
