"""An explained face becomes a head: displacement, albedo, light map and depth are all seen."""

from dataclasses import replace

import pytest
import torch
from rendering.dome import (
    RADIUS,
    dome_camera,
    dome_head,
    dome_points,
    rippled_mesh,
    ripples,
    texels,
)
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import render
from lifemask.rendering.heads import displaced_vertices, head_surface, head_vertices, render_head

LAMP = SphericalHarmonicsLight.from_direction(0.7, 0.3)
SIZE = 96


def explained(**parts: object) -> ExplainedFace:
    face = ExplainedFace(dome_head().neutral(), dome_camera(SIZE), LAMP)
    return replace(face, **parts)  # type: ignore[arg-type]


def displaced(size: int = 128) -> UVMap:
    return UVMap(ripples(texels(size))[None], torch.ones(size, size))


def inside(mask: Tensor, rim: int = 4) -> Tensor:
    """Return the mask without its rim."""
    holes = torch.nn.functional.max_pool2d(1 - mask[None, None], 2 * rim + 1, 1, rim)
    return holes[0, 0] < 0.5


def degrees(one: Tensor, other: Tensor) -> Tensor:
    return torch.rad2deg(
        torch.atan2(torch.linalg.cross(one, other, dim=0).norm(dim=0), (one * other).sum(0))
    )


def test_without_maps_it_is_the_plain_rendering() -> None:
    model, face = dome_head(), explained()
    surface = head_surface(model, face)
    drawn = render_head(surface, face.camera, LAMP)
    plain = render(surface.mesh, face.camera, texture=surface.texture, light=LAMP)
    for name, image in named_tensors(plain).items():
        assert torch.equal(named_tensors(drawn.fine)[name], image), name
    assert torch.equal(drawn.coarse_normals, plain.normals)
    assert surface.mesh is surface.coarse


def test_a_map_that_covers_nothing_changes_nothing() -> None:
    model, face = dome_head(), explained()
    nothing = torch.zeros(16, 16)
    blind = replace(
        face,
        albedo_map=UVMap(torch.ones(3, 16, 16), nothing),
        displacement_map=UVMap(torch.ones(1, 16, 16), nothing),
        light_map=UVMap(torch.ones(3, 16, 16), nothing),
        depth=torch.zeros(SIZE, SIZE),
    )
    plain, drawn = (
        render_head(head_surface(model, f), f.camera, LAMP, depth=f.depth).fine
        for f in (face, blind)
    )
    for name, image in named_tensors(plain).items():
        torch.testing.assert_close(named_tensors(drawn)[name], image, atol=1e-5, rtol=0)


def test_a_sphere_moved_outwards_everywhere_is_a_larger_sphere() -> None:
    model = dome_head()
    face = explained(displacement_map=UVMap(torch.full((1, 16, 16), 0.01), torch.ones(16, 16)))
    surface = head_surface(model, face)
    radii = surface.mesh.vertices.norm(dim=-1).view(31, 31)
    # At the border the normal of a vertex is that of its few triangles.
    torch.testing.assert_close(
        radii[1:-1, 1:-1], torch.full((29, 29), RADIUS + 0.01), atol=1e-5, rtol=0
    )
    assert torch.equal(head_vertices(model, face), surface.mesh.vertices)
    drawn = render_head(surface, face.camera, LAMP)
    larger = render(surface.mesh, face.camera, light=LAMP)
    region = inside(larger.mask)
    assert float(degrees(drawn.fine.normals, larger.normals)[region].max()) < 0.5


def test_normals_of_the_map_are_those_of_the_really_displaced_mesh() -> None:
    model, camera = dome_head(), dome_camera(SIZE)
    surface = head_surface(model, explained(displacement_map=displaced()))
    drawn = render_head(surface, camera, LAMP)
    true = render(rippled_mesh(301), camera, light=LAMP)
    region = inside(true.mask * drawn.fine.mask)
    assert float(region.float().mean()) > 0.3
    error = degrees(drawn.fine.normals, true.normals)[region]
    smooth = degrees(drawn.coarse_normals, true.normals)[region]
    assert float(error.mean()) < 0.5
    assert float(error.max()) < 3
    assert float(smooth.mean()) > 1
    # Shading follows the normals.
    torch.testing.assert_close(
        drawn.fine.shading[:, region], true.shading[:, region], atol=0.05, rtol=0
    )


def test_lashes_stay_on_lids_that_the_displacement_moves() -> None:
    model = MorphableModel.from_pretrained(identity_modes=4)
    assert model.eyeballs is not None
    vertices = model.vertices(model.neutral())
    noise = 0.001 * torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    moved = displaced_vertices(model, vertices, noise)
    assert float((moved - vertices).norm(dim=-1).amax()) > 0.0005
    roots, lids = model.eyeballs.lash_root, model.eyeballs.lash_anchor
    torch.testing.assert_close(moved[roots], moved[lids], atol=1e-6, rtol=0)


def test_every_pixel_of_a_grown_head_has_a_normal() -> None:
    """A displacement outwards is seen beyond the outline of the smooth surface too."""
    face = explained(displacement_map=UVMap(torch.full((1, 16, 16), 0.01), torch.ones(16, 16)))
    drawn = render_head(head_surface(dome_head(), face), face.camera, LAMP)
    lengths = drawn.fine.normals.norm(dim=0)
    torch.testing.assert_close(lengths, drawn.fine.mask, atol=1e-4, rtol=0)


def test_a_batch_is_its_faces_one_by_one() -> None:
    model = dome_head()
    light = UVMap(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(8, 8))
    faces = [
        explained(displacement_map=displaced(64), light_map=light),
        explained(
            displacement_map=map_tensors(lambda t: t.flip(-1), displaced(64)), light_map=light
        ),
    ]
    depth = torch.full((SIZE, SIZE), 0.9)
    depth[:, : SIZE // 2] = 0
    faces = [replace(face, depth=depth) for face in faces]
    stacked = _stacked(faces)
    # (2, 1): clips of one frame.
    clips = map_tensors(lambda t: t.unsqueeze(1), stacked)
    single = [_drawn(model, face) for face in faces]
    for together in (_drawn(model, stacked), map_tensors(lambda t: t[:, 0], _drawn(model, clips))):
        for index, alone in enumerate(single):
            for name, image in named_tensors(alone).items():
                batch = named_tensors(together)[name][index]
                torch.testing.assert_close(batch, image, atol=1e-5, rtol=0)


def _stacked(faces: list[ExplainedFace]) -> ExplainedFace:
    from lifemask.geometry.tensors import joined

    return joined([map_tensors(lambda t: t.unsqueeze(0), face) for face in faces])


def _drawn(model: object, face: ExplainedFace) -> object:
    return render_head(head_surface(model, face), face.camera, face.light, depth=face.depth).fine  # type: ignore[arg-type]


def test_a_light_map_replaces_the_light_where_it_covers() -> None:
    coverage = torch.zeros(64, 64)
    coverage[:, :32] = 1
    face = explained(light_map=UVMap(torch.full((3, 64, 64), 0.25), coverage))
    surface = head_surface(dome_head(), face)
    drawn = render_head(surface, face.camera, LAMP).fine
    plain = render_head(surface.without_light_map(), face.camera, LAMP).fine
    left = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    left[:, : SIZE // 2 - 4] = True
    right = torch.zeros_like(left)
    right[:, SIZE // 2 + 12 :] = True
    region = inside(drawn.mask)
    assert float((drawn.shading - 0.25)[:, region & left].abs().max()) < 1e-5
    torch.testing.assert_close(
        drawn.shading[:, region & right], plain.shading[:, region & right], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(drawn.colour, drawn.albedo * drawn.shading)
    assert float(drawn.colour[:, drawn.mask == 0].abs().max()) == 0


def test_the_albedo_map_counts_where_it_covers() -> None:
    coverage = torch.zeros(32, 32)
    coverage[:16] = 1
    face = explained(albedo_map=UVMap(torch.full((3, 32, 32), 0.9), coverage))
    model = dome_head()
    texture = head_surface(model, face).texture
    assert texture is not None
    torch.testing.assert_close(texture[:, :16], torch.full((3, 16, 32), 0.9))
    torch.testing.assert_close(texture[:, 16:], torch.full((3, 16, 32), -1.0).exp())


def test_refined_depth_gives_the_normals_inside_the_head_and_nothing_outside() -> None:
    face = explained(depth=torch.full((SIZE, SIZE), 0.9))
    drawn = render_head(head_surface(dome_head(), face), face.camera, LAMP, depth=face.depth).fine
    region = inside(drawn.mask)
    forward = torch.tensor([0.0, 0.0, 1.0])[:, None]
    assert float((drawn.normals[:, region] - forward).abs().max()) < 1e-3
    assert float((drawn.depth[region] - 0.9).abs().max()) < 1e-6
    assert float(drawn.depth[drawn.mask == 0].max()) == 0
    assert float(drawn.normals[:, drawn.mask == 0].abs().max()) == 0


@pytest.mark.parametrize("part", ["displacement_map", "light_map", "albedo_map", "depth"])
def test_gradients_reach_every_predicted_part(part: str) -> None:
    values = {
        "displacement_map": displaced(32).values,
        "light_map": torch.full((3, 8, 8), 0.5),
        "albedo_map": torch.full((3, 8, 8), 0.5),
        "depth": torch.full((SIZE, SIZE), 0.9) + torch.linspace(0, 0.01, SIZE),
    }[part].requires_grad_()
    given = values if part == "depth" else UVMap(values, torch.ones(values.shape[-2:]))
    face = explained(**{part: given})
    drawn = render_head(head_surface(dome_head(), face), face.camera, LAMP, depth=face.depth).fine
    drawn.colour.square().sum().backward()
    assert values.grad is not None
    assert bool(torch.isfinite(values.grad).all())
    assert float(values.grad.abs().max()) > 0


def test_the_ripples_of_the_dome_are_where_its_texture_is() -> None:
    """The helper of these tests: a coarse and a fine mesh have the same points."""
    uv = torch.tensor([[0.25, 0.5], [0.5, 0.75]])
    points = dome_points(uv, ripples(uv))
    torch.testing.assert_close(points.norm(dim=-1), RADIUS + ripples(uv))
