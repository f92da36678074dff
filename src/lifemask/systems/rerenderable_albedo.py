"""The second stage for skin colour: a complete UV albedo without light, and the light of the photo.

Yang, Guo, Cheng, Zhang and Yan, "Self-supervised re-renderable facial albedo reconstruction from single
image" (arXiv 2111.08282). A regressor that is already trained gives geometry and pose; the photo is
unwrapped with them. A network in texture space turns it, beside a prior albedo, into an albedo and a
detailed light; their product must be the photo.

As published: the two modules, texture space, the losses `photometric` (here in texture space and in
logarithms), `symmetry`, `chroma` (smooth where the photo's hue is), `white_light` and `near_light` (the
light map is nearly white and nearly the light of nine harmonics).

What differs, and why:

- The prior is the mean albedo of our head model, for everybody: a prior that was fitted to the photo
  holds stains of the light already. How light the skin is, the albedo coefficients of the first system
  or of the fit decide; the network alone takes everybody for average.
- It learns from drawn faces with a known albedo too: `pattern` compares the albedo on all skin, seen or
  hidden, after the best tone, and `tone` compares the tone. Photos alone do not tell skin from light.
- The light map is a factor on the light of nine harmonics, which is solved for first, in closed form.
  Where the albedo changes the tone, the light changes it back, so the product always fits.
- No embedding, style or adversarial losses: the recipe learns on a CPU. The map has 128 texels a side; the
  texture of a head takes its detail from the photo (`lifemask.texture.face_texture`). The preset
  `published` has the paper's 256 texels and a wide network.

Full reconstructions take only its `shadows`; its albedo and light are worse than those of a fit on people
that are not drawn (docs/decisions/0017-skin-and-light.md).

It does not find faces: `forward` needs the face of another system or of a fit. In training, faces come
from the released `flagship`, so that geometry errs as it does in use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics
from lifemask.geometry.tensors import map_tensors
from lifemask.losses.intrinsic import (
    chroma_smoothness,
    explained_photo,
    texel_mean,
    tone_and_pattern,
)
from lifemask.losses.means import weighted_mean
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.networks.albedo_network import AlbedoNetwork
from lifemask.networks.relief_network import grey_light
from lifemask.rendering import Fragments
from lifemask.systems.unwrapped_faces import DARKEST, UnwrappedFaces, unwrapped_faces
from lifemask.texture.atlas import head_atlas
from lifemask.training.config import (
    MAIN,
    BankSource,
    Optimiser,
    Phase,
    PhotoSource,
    Recipe,
    Schedule,
    SystemChoice,
)
from lifemask.training.flat_batches import flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

CROP_SIZE = 256
"""Pixels on a side of the crops of the recipe."""
TEXELS, PUBLISHED_TEXELS = 128, 256
"""Texels on a side of the maps."""

_DARKEST_SHARE = 0.08
"""Least light, in units of the brightest."""
_RIDGE = 0.03
"""Ridge of the released light: it must hold for normals that the photo does not show, too."""
_LEAST_SHADOW = 0.3
"""Log light by which shadows are darker than the light of nine harmonics; only what is darker counts."""
_AROUND_BROWS = 5
"""Texels of a side of the squares by which brows are taken for larger than they are."""
_FIRST = "flagship"
"""The system that gives the faces in training."""


@dataclass(frozen=True)
class SeparatedSkin:
    """Skin and light of unwrapped photos."""

    log_albedo: Float[Tensor, "B 3 R R"]
    """Logarithm of linear RGB, complete."""
    log_light: Float[Tensor, "B 3 R R"]
    """Logarithm of the shading; albedo times shading is the photo."""
    change: Float[Tensor, "B 3 R R"]
    """Of the log albedo against the prior."""
    detail: Float[Tensor, "B 3 R R"]
    """Of the log light against that of nine harmonics."""


@final
class RerenderableAlbedo(System):
    """Photo and fitted head to albedo and light in texture space."""

    name: ClassVar[str] = "rerenderable_albedo"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                "pattern": 1.0,
                "tone": 0.3,
                "photometric": 0.5,
                "white_light": 0.1,
                "near_light": 0.02,
                "symmetry": 0.02,
                "chroma": 0.05,
            },
            optimiser=Optimiser(
                learning_rate=2e-3,
                betas=(0.9, 0.99),
                weight_decay=1e-3,
                gradient_clip=1.0,
                average=0.995,
            ),
        )
    }
    refines: ClassVar[bool] = True

    position: Float[Tensor, "3 R R"]
    """Of each texel on the mean head, about -1 to 1."""
    prior: Float[Tensor, "3 R R"]
    """Logarithm of the mean albedo."""
    skin_texels: Float[Tensor, "R R"]
    """How far each texel is outer skin without scalp and brows."""

    def __init__(
        self, model: MorphableModel, *, crop_size: int, texels: int, levels: int, width: int
    ) -> None:
        """Assemble the untrained system, which predicts the prior.

        Args:
            model: the head, with albedo.
            crop_size: pixels on a side of the crops.
            texels: on a side of the maps, a multiple of 2^levels.
            levels: how often the network halves the resolution.
            width: channels of the network at the full resolution.

        Raises:
            ValueError: the model has no albedo, or the network cannot halve so many texels.
        """
        super().__init__()
        if model.albedo is None:
            raise ValueError("rerenderable_albedo needs a head model with albedo.")
        if texels % 2**levels:
            raise ValueError(f"texels is {texels}; it must be a multiple of {2**levels}.")
        self.crop_size = crop_size
        self.model = model
        self.network = AlbedoNetwork(levels=levels, width=width)
        atlas = head_atlas(model, texels)
        self._fragments = atlas.fragments
        self._first: System | None = None
        middle = model.mean.mean(0)[:, None, None]
        # Drawn brows are hairs before the skin, so the network knows nothing of brows.
        brows = F.max_pool2d(atlas.regions["brows"][None], _AROUND_BROWS, 1, _AROUND_BROWS // 2)[0]
        soft = F.avg_pool2d(brows[None], _AROUND_BROWS, 1, _AROUND_BROWS // 2)[0]
        bare = (1 - 1.5 * soft).clamp(0, 1)
        prior = model.albedo.texture(torch.zeros(len(model.albedo.basis_log)))
        prior = F.interpolate(prior[None], (texels, texels), mode="bilinear", antialias=True)[0]
        buffers = {
            "position": (atlas.position - middle) / 0.1 * atlas.fragments.mask,
            "prior": prior.clamp(min=DARKEST).log(),
            "skin_texels": atlas.skin * (1 - atlas.regions["scalp"]).clamp(0, 1) * bare,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.clone(), persistent=False)

    @classmethod
    def build(
        cls,
        *,
        crop_size: int = CROP_SIZE,
        texels: int = TEXELS,
        levels: int = 5,
        width: int = 16,
    ) -> "RerenderableAlbedo":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops.
            texels: on a side of the maps, a multiple of 2^levels.
            levels: how often the network halves the resolution.
            width: channels of the network at the full resolution; they grow eightfold.
        """
        return cls(
            MorphableModel.from_pretrained(),
            crop_size=crop_size,
            texels=texels,
            levels=levels,
            width=width,
        )

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those that need none."""
        found: list[Losses] = []
        for batch in flat_batches(batches):
            faces = self.faces_to_refine(batch)
            seen = self._unwrapped(batch.photo, batch.skin, faces)
            skin = self.separated(seen)
            weight = seen.weight * self.skin_texels
            whole = self.skin_texels.expand_as(weight)
            chroma = skin.detail - skin.detail.mean(1, keepdim=True)
            mirror = skin.change.flip(-1).detach()
            losses = {
                "photometric": explained_photo(
                    skin.log_albedo + skin.log_light, seen.log_photo, weight
                ),
                "white_light": _mean(chroma.abs(), weight),
                "near_light": _mean(skin.detail.abs(), weight),
                "symmetry": _mean((skin.change - mirror).abs(), whole),
                "chroma": chroma_smoothness(skin.change, seen.log_photo, weight),
            }
            true = None if batch.truth is None else batch.truth.face.albedo_map
            if true is not None:
                log_true, known = self._true_albedo(true)
                losses["tone"], losses["pattern"] = tone_and_pattern(
                    skin.log_albedo, log_true, weight * known, whole * known
                )
            found.append(losses)
        return with_axes_of(batches, found)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Return the faces with albedo map, light map and light; see `System.forward`.

        The tone of the skin is that of the albedo coefficients of the given face: how light skin is,
        texture space does not tell. The light map covers what the photo shows. The light is that of
        nine harmonics which explains the photo best with this albedo.

        Args:
            faces: with `previous` and `skin`.

        Raises:
            ValueError: one of them is missing.
        """
        if faces.previous is None or faces.skin is None:
            raise ValueError(f"{self.name} refines faces: give it the face of another system.")
        batch = faces.photo.shape[:-3]
        given = map_tensors(lambda t: t.flatten(0, len(batch) - 1), faces)
        assert given.previous is not None
        assert given.skin is not None
        seen = self._unwrapped(given.photo, given.skin, given.previous)
        skin = self.separated(seen)
        weight = seen.weight * self.skin_texels
        tone = texel_mean(self._own_albedo(given.previous) - skin.log_albedo, weight)
        tone = tone[..., None, None]
        log_albedo = (skin.log_albedo + tone).clamp(max=0)
        shown = (seen.log_photo - log_albedo).exp()
        found = replace(
            given.previous,
            albedo_map=UVMap(log_albedo.exp(), self.skin_texels.expand_as(weight)),
            light_map=UVMap((skin.log_light - tone).exp(), weight),
            light=coloured_light(shown, seen.normals, weight),
        )
        return map_tensors(lambda t: t.unflatten(0, batch), found)

    def shadows(self, faces: FramedFaces) -> UVMap:
        """Return light maps of shadows: the given light, darker where the photo shows a shadow.

        They cover only texels that are much darker than the light explains: small differences may be skin.

        Args:
            faces: one batch axis, with `previous` and `skin`.

        Raises:
            ValueError: one of them is missing.
        """
        if faces.previous is None or faces.skin is None:
            raise ValueError(f"{self.name} refines faces: give it the face of another system.")
        seen = self._unwrapped(faces.photo, faces.skin, faces.previous)
        darker = (self.separated(seen).detail.mean(1) + _LEAST_SHADOW).clamp(max=0)
        shading = faces.previous.light.shade(seen.normals.flatten(2).mT)
        shading = shading.mT.unflatten(2, darker.shape[-2:]).clamp(min=DARKEST)
        coverage = seen.weight * self.skin_texels * (darker < 0)
        return UVMap(shading * darker.exp()[:, None], coverage)

    @torch.no_grad()
    def faces_to_refine(self, batch: FaceBatch) -> ExplainedFace:
        """Return the faces of crops as the released flagship predicts them."""
        if self._first is None:
            from lifemask.systems.registry import load_system

            # Not a module of this one: its weights are neither learned nor needed in use.
            object.__setattr__(self, "_first", load_system(_FIRST, batch.photo.device))
        assert self._first is not None
        photo = batch.photo.flatten(0, -4)
        side, size = photo.shape[-1], self._first.crop_size
        small = F.interpolate(photo, (size, size), mode="bilinear", antialias=True)
        face = self._first(FramedFaces(small))
        camera = face.camera.cropped(0, 0, (side, side), side / size)
        found = replace(face, camera=camera, landmarks=None)
        return map_tensors(lambda t: t.unflatten(0, batch.photo.shape[:-3]), found)

    def separated(self, seen: UnwrappedFaces) -> SeparatedSkin:
        """Return skin and light of unwrapped photos."""
        weight = seen.weight * self.skin_texels
        ratio = seen.log_photo - self.prior
        level = texel_mean(ratio, weight)
        centred = ratio - level[..., None, None]
        grey = centred.mean(1, keepdim=True).exp()
        log_shading = _log_shading(grey_light(grey, seen.normals, weight[:, None]), seen.normals)
        change, detail = self.run_network(
            self.network,
            centred - log_shading,
            log_shading,
            seen.weight,
            seen.cosine,
            level,
            self.position,
        )
        tone = texel_mean(change, weight)
        base = level - tone
        return SeparatedSkin(
            (self.prior + change).clamp(max=0),
            base[..., None, None] + log_shading + detail,
            change,
            detail,
        )

    def _unwrapped(
        self, photo: Float[Tensor, "B 3 S S"], skin: Float[Tensor, "B S S"], face: ExplainedFace
    ) -> UnwrappedFaces:
        device = photo.device
        parts = self._fragments
        fragments = Fragments(
            parts.triangle_index.to(device), parts.barycentric.to(device), parts.depth.to(device)
        )
        return unwrapped_faces(photo, skin, face, self.model, fragments)

    def _own_albedo(self, face: ExplainedFace) -> Float[Tensor, "B 3 R R"]:
        """Return the log albedo of faces' coefficients at the resolution of the maps."""
        assert self.model.albedo is not None
        texture = self.model.albedo.texture(face.coefficients.albedo)
        size = self.skin_texels.shape
        small = F.interpolate(texture, size, mode="bilinear", antialias=True)
        return small.clamp(min=DARKEST).log()

    def _true_albedo(self, true: UVMap) -> tuple[Float[Tensor, "B 3 R R"], Float[Tensor, "B R R"]]:
        """Return a true log albedo at the resolution of the maps, and where it is known."""
        size = self.skin_texels.shape
        images = torch.cat([true.values, true.coverage[:, None]], 1)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return images[:, :3].clamp(min=DARKEST).log(), (images[:, 3] > 0.99).to(images)


def coloured_light(
    shading: Float[Tensor, "B 3 R R"],
    normals: Float[Tensor, "B 3 R R"],
    weight: Float[Tensor, "B R R"],
) -> SphericalHarmonicsLight:
    """Return the light of nine harmonics for each colour that explains a shading best.

    Args:
        shading: linear RGB.
        normals: unit, light axes.
        weight: of each texel, 0 or more.
    """
    channels = [
        grey_light(shading[:, k : k + 1], normals, weight[:, None], ridge=_RIDGE) for k in range(3)
    ]
    return SphericalHarmonicsLight(torch.stack(channels, -1))


def _log_shading(
    light: Float[Tensor, "B 9"], normals: Float[Tensor, "B 3 R R"]
) -> Float[Tensor, "B 1 R R"]:
    """Return the logarithm of grey light on normals, cut off far below its maximum; 0 beside them."""
    basis = spherical_harmonics(normals.movedim(1, -1))
    shading = torch.einsum("bhwk,bk->bhw", basis, light)[:, None]
    surface = (normals.square().sum(1, keepdim=True) > 0.25).to(shading)
    bright = (shading * surface).flatten(1).quantile(0.98, 1).clamp(min=0.05)
    least = _DARKEST_SHARE * bright[:, None, None, None]
    return torch.maximum(shading, least).log() * surface


def _mean(image: Float[Tensor, "B C R R"], weight: Float[Tensor, "B R R"]) -> Float[Tensor, "B"]:
    return weighted_mean(image.mean(1).flatten(1), weight.flatten(1))


def rerenderable_albedo() -> Recipe:
    """Skin and light of drawn faces, whose albedo is known."""
    return Recipe(
        name="rerenderable_albedo",
        description="A complete albedo without light, and the light of the photo, in texture space.",
        system=SystemChoice("rerenderable_albedo", {"crop_size": CROP_SIZE}),
        sources={
            "skins": BankSource(
                1.0,
                folder="banks/skins",
                augmentation=replace(
                    Augmentation(), shift=0.05, scale=0.1, tint=0.15, exposure=0.4, grey=0.05
                ),
            )
        },
        phases=RerenderableAlbedo.phases,
        batch_size=8,
        schedule=Schedule(steps=6_000, warmup_steps=50),
        smoke=("system.options.crop_size=64", "system.options.texels=32", "system.options.width=4"),
    )


def rerenderable_albedo_published() -> Recipe:
    """The paper's resolution and batch, from photos only; a wide network."""
    return Recipe(
        name="rerenderable_albedo_published",
        description="As rerenderable_albedo, with the paper's resolution, from photos only.",
        system=SystemChoice(
            "rerenderable_albedo",
            {"crop_size": CROP_SIZE, "texels": PUBLISHED_TEXELS, "width": 64},
        ),
        sources={"photos": PhotoSource(1.0)},
        phases=RerenderableAlbedo.phases,
        batch_size=16,
        schedule=Schedule(steps=100_000),
        smoke=(
            "system.options.crop_size=64",
            "system.options.texels=32",
            "system.options.width=4",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


RECIPES = (rerenderable_albedo, rerenderable_albedo_published)
"""What `lifemask train` lists for this system, by the names of the functions."""
