"""Layers of wearables have the right properties; the numba version agrees with the plain one."""

from functools import cache

import pytest
import torch
from torch import Tensor

from lifemask.data.wearables import _numba
from lifemask.data.wearables.drawing import Layers, draw_layers, draw_worn
from lifemask.data.wearables.dressing import CLOTH, Dressed, dress
from lifemask.data.wearables.outfit import Outfit
from lifemask.data.wearables.pictures import halved, pyramids
from lifemask.data.wearables.shading import vertex_colours
from lifemask.data.wearables.wardrobe import Wardrobe
from lifemask.geometry.cameras import (
    FRONTAL_HEAD_TO_CAMERA,
    PerspectiveCamera,
    rigid_transform,
)
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize

SIZE = 72
SOFT = SphericalHarmonicsLight.from_direction(0.4, 0.3, strength=0.3).coefficients
DIRECTION = torch.nn.functional.normalize(torch.tensor([0.5, 0.6, 0.7]), dim=0)
LAMP = torch.tensor([0.7, 0.6, 0.5])


def looking_at_head(yaw: float = 0.4) -> PerspectiveCamera:
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ matrix_from_yaw_pitch_roll(
        torch.tensor(yaw), torch.tensor(0.1), torch.tensor(0.05)
    )
    centre = torch.tensor([0.0, 0.0, 1.2]) - rotation @ torch.tensor([0.0, -0.03, -0.06])
    return PerspectiveCamera(
        torch.tensor(SIZE / 0.32 * 1.2),
        torch.tensor([SIZE / 2 + 0.3, SIZE / 2 - 0.2]),
        rigid_transform(rotation, centre),
        (SIZE, SIZE),
    )


def cards(
    corners: list[list[list[float]]], *, alpha: float = 1.0, colour: tuple[float, ...] = (0.5,) * 3
) -> Dressed:
    """Return quads in head space as cloth of even opacity."""
    vertices = torch.tensor(corners).reshape(-1, 3)
    start = 4 * torch.arange(len(corners))[:, None, None]
    triangles = (torch.tensor([[0, 1, 2], [0, 2, 3]]) + start).reshape(-1, 3)
    count, ones = len(vertices), torch.ones(len(vertices))
    return Dressed(
        vertices=vertices,
        triangles=triangles,
        uv=torch.zeros(count, 2),
        picture=torch.zeros(len(triangles), dtype=torch.int64),
        pictures=(halved(torch.tensor([[[1.0]], [[alpha]]])),),
        colour=torch.tensor(colour).expand(count, 3),
        opacity=ones,
        ambient_visibility=ones,
        surface=torch.full((count,), CLOTH),
        specular=0 * ones,
        lift=torch.zeros(len(triangles)),
        one_sided=torch.zeros(len(triangles), dtype=torch.bool),
        casts=torch.zeros(len(triangles), dtype=torch.bool),
        kind=("cloth",),
        skin_cover=torch.zeros(1),
        skin_ambient_visibility=torch.ones(1),
        hair_colour=torch.zeros(3),
        own_lashes=True,
    )


def square(z: float, side: float = 0.06) -> list[list[float]]:
    return [[-side, -side, z], [side, -side, z + 0.01], [side, side, z], [-side, side, z - 0.01]]


def draw(
    dressed: Dressed, backend: str = "torch", *, depth: Tensor | None = None, yaw: float = 0.4
) -> Layers:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(1, 3, SIZE, SIZE, generator=generator)
    depth = torch.zeros(1, SIZE, SIZE) if depth is None else depth
    return draw_layers(
        colour, depth, [dressed], looking_at_head(yaw),
        soft=SOFT[None], direction=DIRECTION[None], lamp=LAMP[None], backend=backend,
    )  # fmt: skip


def photo() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@cache
def head() -> tuple[MorphableModel, Wardrobe]:
    model = MorphableModel.from_pretrained()
    return model, Wardrobe.from_pretrained(model)


def person(outfit: Outfit) -> Dressed:
    model, wardrobe = head()
    skin = torch.tensor([0.4, 0.25, 0.18])
    return dress(outfit, wardrobe, model, model.mean, model.mean, skin_colour=skin)


def head_depth(yaw: float) -> Tensor:
    model, _ = head()
    camera = looking_at_head(yaw)
    return rasterize(camera.project(model.mean), model.triangles, camera.image_size).depth[None]


@pytest.mark.parametrize(
    "outfit",
    [
        Outfit(hair="hair_afro01", brows="brow_009", lashes="lashes_04"),
        Outfit(hair="hair_long01", glasses=True, lens_opacity=0.8, neckline="v"),
        Outfit(
            hair="hair_short04", hat="hat_fedora", torso_turn=0.5, stripe_colour=(0.5, 0.4, 0.1)
        ),
        Outfit(hair="hair_ponytail01", clothes=False),
    ],
)
def test_the_fast_layers_are_the_plain_ones(outfit: Outfit) -> None:
    for yaw in (-1.2, 0.3):
        depth = head_depth(yaw)
        slow = draw(person(outfit), "torch", depth=depth, yaw=yaw)
        fast = draw(person(outfit), "numba", depth=depth, yaw=yaw)
        # The fast version stops where less than 1/255 of the light is left.
        torch.testing.assert_close(fast.colour, slow.colour, atol=8e-3, rtol=0)
        torch.testing.assert_close(fast.opacity, slow.opacity, atol=4.5e-3, rtol=0)
        torch.testing.assert_close(fast.depth, slow.depth, atol=1e-6, rtol=0)


def test_worn_things_averaged_over_samples_are_the_layers_averaged() -> None:
    dressed = person(Outfit(hair="hair_long01", glasses=True, lens_opacity=0.8))
    camera, light = looking_at_head(), (SOFT[None], DIRECTION[None], LAMP[None])
    options = dict(zip(("soft", "direction", "lamp"), light, strict=True))
    fine = camera.cropped(0, 0, (2 * SIZE, 2 * SIZE), scale=2.0)
    depth = rasterize(fine.project(head()[0].mean), head()[0].triangles, fine.image_size).depth[
        None
    ]
    black = torch.zeros(1, 3, 2 * SIZE, 2 * SIZE)
    layers = draw_layers(black, depth, [dressed], fine, backend="numba", **options)
    for backend in ("torch", "numba"):
        worn, both = draw_worn(depth, [dressed], camera, 2, backend=backend, **options)
        pool = torch.nn.functional.avg_pool2d
        torch.testing.assert_close(worn.colour, pool(layers.colour, 2), atol=4e-3, rtol=0)
        torch.testing.assert_close(worn.opacity, pool(layers.opacity, 2), atol=2e-3, rtol=0)
        covered = pool(layers.opacity * (depth > 0), 2)
        torch.testing.assert_close(both, covered, atol=2e-3, rtol=0)
        assert (both <= worn.opacity + 1e-6).all()
        assert (worn.depth.isfinite() == (pool(layers.opacity, 2) > 0.5)).float().mean() > 0.95


def test_compiled_light_on_worn_things_is_the_plain_one() -> None:
    dressed = person(Outfit(hair="hair_long01", glasses=True, brows="brow_001"))
    for yaw in (-1.2, 0.3):
        camera = looking_at_head(yaw)
        plain = vertex_colours(dressed, camera, soft=SOFT, direction=DIRECTION, lamp=LAMP)
        compiled = _numba.vertex_colours(dressed, camera.world_to_camera, SOFT, DIRECTION, LAMP)
        torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_an_opaque_card_is_rasterised_and_shaded(backend: str) -> None:
    dressed, camera = cards([square(0.0)]), looking_at_head()
    layers = draw(dressed, backend)
    fragments = rasterize(
        camera.project(dressed.vertices), dressed.triangles, camera.image_size, cull="none"
    )
    lit = vertex_colours(dressed, camera, soft=SOFT, direction=DIRECTION, lamp=LAMP)
    expected = interpolate(lit, dressed.triangles, fragments)
    torch.testing.assert_close(layers.opacity[0], fragments.mask.float())
    torch.testing.assert_close(layers.depth[0], fragments.depth)
    torch.testing.assert_close(
        layers.colour[0], torch.where(fragments.mask, expected, photo()[0]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_card_of_no_opacity_draws_nothing(backend: str) -> None:
    layers = draw(cards([square(0.0)], alpha=0.0), backend)
    assert torch.equal(layers.colour, photo())
    assert layers.opacity.max() == 0
    assert layers.depth.max() == 0


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_without_wearables_the_picture_stays_the_same(backend: str) -> None:
    layers = draw(cards([]), backend)
    assert torch.equal(layers.colour, photo())


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_cards_hide_by_the_product_of_what_they_let_through(backend: str) -> None:
    layers = draw(cards([square(0.01 * k) for k in range(5)], alpha=0.3), backend)
    middle = layers.opacity[0, SIZE // 2, SIZE // 2]
    torch.testing.assert_close(middle, torch.tensor(1 - 0.7**5))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_order_of_cards_does_not_matter(backend: str) -> None:
    squares = [square(z) for z in (0.03, -0.02, 0.0, 0.05, -0.04)]
    first = draw(cards(squares, alpha=0.4), backend)
    again = draw(cards(squares[::-1], alpha=0.4), backend)
    torch.testing.assert_close(first.colour, again.colour)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_cards_behind_the_head_are_hidden(backend: str) -> None:
    depth = torch.zeros(1, SIZE, SIZE)
    depth[:, :, : SIZE // 2] = 0.9
    layers = draw(cards([square(0.0)]), backend, depth=depth)
    assert layers.opacity[0, :, : SIZE // 2].max() == 0
    assert layers.opacity[0, :, SIZE // 2 :].max() == 1


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_depth_is_where_half_of_the_light_is_stopped(backend: str) -> None:
    camera, place = looking_at_head(), SIZE // 2
    squares = [square(z) for z in (0.06, 0.03, 0.0)]
    layers = draw(cards(squares, alpha=0.3), backend)
    second = cards(squares[1:2])
    expected = rasterize(
        camera.project(second.vertices), second.triangles, camera.image_size, cull="none"
    )
    # 0.7, 0.49, 0.343: the second card takes more than half.
    torch.testing.assert_close(layers.depth[0, place, place], expected.depth[place, place])


def test_an_image_of_a_batch_is_the_image_alone() -> None:
    one, other = person(Outfit(hair="hair_short02")), person(Outfit(hair="hair_bob02", hat=None))
    colour, depth = photo().repeat(2, 1, 1, 1), head_depth(0.4).repeat(2, 1, 1)
    light = {"soft": SOFT[None], "direction": DIRECTION[None], "lamp": LAMP[None]}
    camera = looking_at_head()
    for backend in ("torch", "numba"):
        both = draw_layers(
            colour, depth, [one, other], camera,
            **{name: value.expand(2, *value.shape[1:]) for name, value in light.items()},
            backend=backend,
        )  # fmt: skip
        alone = draw_layers(colour[1:], depth[1:], [other], camera, **light, backend=backend)
        torch.testing.assert_close(both.colour[1:], alone.colour)
        torch.testing.assert_close(both.depth[1:], alone.depth)


def test_hair_is_seen_where_it_is_worn() -> None:
    model, _ = head()
    dressed = person(Outfit(hair="hair_short01", clothes=False))
    layers = draw(dressed, "numba", depth=head_depth(0.0), yaw=0.0)
    crown = looking_at_head(0.0).project(model.mean[model.mean[:, 1].argmax()][None])[0]
    mouth = looking_at_head(0.0).project(model.mean[model.regions["lips"].argmax()][None])[0]
    x, y = (int(value) for value in crown[:2])
    assert layers.opacity[0, y + 2, x] > 0.9
    x, y = (int(value) for value in mouth[:2])
    assert layers.opacity[0, y, x] == 0


def test_a_darker_light_darkens_all_that_is_worn() -> None:
    camera = looking_at_head()
    dressed = person(Outfit(hair="hair_bob02", glasses=True))
    bright = vertex_colours(dressed, camera, soft=SOFT, direction=DIRECTION, lamp=LAMP)
    dim = vertex_colours(dressed, camera, soft=SOFT, direction=DIRECTION, lamp=0 * LAMP)
    assert (dim <= bright + 1e-6).all()
    assert bright.min() >= 0


def test_small_levels_keep_a_pictures_mean_opacity() -> None:
    picture = torch.rand(2, 128, 128, generator=torch.Generator().manual_seed(1))
    stack = pyramids([halved(picture)], torch.device("cpu"))
    last = stack.texels[int(stack.start[-1]) :, 1]
    torch.testing.assert_close(last.mean(), picture[1].mean())


def test_counts_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="Got 1 images and 0 outfits"):
        draw_layers(
            photo(), torch.zeros(1, SIZE, SIZE), [], looking_at_head(),
            soft=SOFT[None], direction=DIRECTION[None], lamp=LAMP[None],
        )  # fmt: skip
