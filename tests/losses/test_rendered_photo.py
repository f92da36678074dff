"""A drawn face explains its own photo; gradients reach skin, light and shape as finite differences do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.losses.rendered_photo import colour_distance_loss, rendered_photo
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.networks.parameters import ParameterDecoder
from lifemask.rendering.face_colours import FaceRenderer
from lifemask.rendering.heads import head_surface, render_head
from lifemask.rendering.images import render

CROP, SIZE = 96, 48


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def renderer(model: MorphableModel) -> FaceRenderer:
    return FaceRenderer(model)


@pytest.fixture(scope="module")
def face(model: MorphableModel) -> ExplainedFace:
    decoder = ParameterDecoder.for_model(model, crop_size=CROP)
    raw = torch.randn(2, decoder.outputs, generator=torch.Generator().manual_seed(1)) * 0.3
    return decoder(raw)


@pytest.fixture(scope="module")
def photo(model: MorphableModel, face: ExplainedFace) -> Tensor:
    """Return images of the whole heads with their textures, at the full size of the crops."""
    return render_head(head_surface(model, face), face.camera, face.light).fine.colour.clamp(0, 1)


def inner_skin() -> Tensor:
    """Return a weight of 1 on the middle of the crop: cheeks, nose and mouth, far from the outline."""
    skin = torch.zeros(2, CROP, CROP)
    skin[:, 40:72, 34:62] = 1
    return skin


def changed(face: ExplainedFace, part: str, change: Tensor | float) -> ExplainedFace:
    if part == "light":
        return replace(face, light=SphericalHarmonicsLight(face.light.coefficients + change))
    given = getattr(face.coefficients, part)
    return replace(face, coefficients=replace(face.coefficients, **{part: given + change}))


def cheek() -> Tensor:
    """Return a weight of 1 on a cheek, where nothing hides and nothing opens when the shape changes."""
    skin = torch.zeros(2, CROP, CROP)
    skin[:, 50:62, 25:40] = 1
    return skin


def loss_of(
    renderer: FaceRenderer, photo: Tensor, skin: Tensor
) -> Callable[[ExplainedFace], Tensor]:
    def loss(face: ExplainedFace) -> Tensor:
        seen = rendered_photo(renderer, face, photo, skin, size=SIZE)
        return colour_distance_loss(seen.rendered, seen.photo, seen.compared)

    return loss


def test_a_face_explains_its_own_image_and_other_skin_or_light_does_not(
    renderer: FaceRenderer, face: ExplainedFace, photo: Tensor
):
    loss = loss_of(renderer, photo, inner_skin())
    own = loss(face)
    # Colours at vertices and a smaller image leave a little.
    assert own.max() < 0.025
    for part in ("albedo", "light"):
        assert (loss(changed(face, part, 0.3)) > 3 * own).all(), part


def test_the_drawing_of_a_face_is_that_of_its_albedo_map(
    renderer: FaceRenderer, face: ExplainedFace, model: MorphableModel
):
    assert model.albedo is not None
    plain, covered = renderer(face, SIZE)
    texture = model.albedo.texture(face.coefficients.albedo)
    mapped = replace(face, albedo_map=UVMap(texture, torch.ones_like(texture[:, 0])))
    colour, again = renderer(mapped, SIZE)
    assert torch.equal(covered, again)
    assert (colour - plain).abs().sum() / (3 * covered.sum()) < 0.01
    # The map alone decides: a black one gives a black face.
    black = replace(face, albedo_map=UVMap(texture * 0, torch.ones_like(texture[:, 0])))
    assert float(renderer(black, SIZE)[0].abs().max()) == 0


@pytest.mark.parametrize(("part", "row"), [("albedo", 0), ("light", 0), ("identity", 3)])
def test_gradients_agree_with_finite_differences(
    renderer: FaceRenderer, face: ExplainedFace, photo: Tensor, part: str, row: int
):
    # A wrong light makes every pixel differ, so the loss is smooth.
    start = changed(changed(face, "albedo", 0.4), "light", 0.2)
    loss = loss_of(renderer, photo, cheek())
    shape = (2, 9, 3) if part == "light" else (2, getattr(face.coefficients, part).shape[-1])
    change = torch.zeros(shape, requires_grad=True)
    loss(changed(start, part, change)).sum().backward()
    assert change.grad is not None
    step, one = 1e-2, torch.zeros(shape)
    one[:, row] = step
    with torch.no_grad():
        up, down = loss(changed(start, part, one)), loss(changed(start, part, -one))
    found = (change.grad * one).flatten(1).sum(-1) / step
    expected = (up - down) / (2 * step)
    assert (expected.abs() > 5e-4).all()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=2e-4)


def test_what_is_pasted_is_the_drawing_on_skin_and_the_photo_elsewhere(
    renderer: FaceRenderer, face: ExplainedFace, photo: Tensor
):
    seen = rendered_photo(renderer, face, photo, inner_skin(), size=CROP)
    inside = seen.compared.bool()
    assert inside.any()
    pasted, rendered = seen.pasted.movedim(1, -1), seen.rendered.movedim(1, -1).clamp(0, 1)
    torch.testing.assert_close(pasted[inside], rendered[inside])
    assert torch.equal(pasted[~inside], seen.photo.movedim(1, -1)[~inside])


def test_a_photo_without_skin_has_no_loss_and_no_gradient(
    renderer: FaceRenderer, face: ExplainedFace, photo: Tensor
):
    albedo = face.coefficients.albedo.clone().requires_grad_()
    given = replace(face, coefficients=replace(face.coefficients, albedo=albedo))
    seen = rendered_photo(renderer, given, photo, torch.zeros(2, CROP, CROP), size=SIZE)
    loss = colour_distance_loss(seen.rendered, seen.photo, seen.compared)
    loss.sum().backward()
    assert float(loss.abs().max().detach()) == 0
    assert albedo.grad is not None
    assert not albedo.grad.any()


def test_the_distance_is_that_of_colours_and_not_of_channels():
    photo = torch.zeros(1, 3, 1, 2)
    rendered = torch.tensor([[[[0.3, 0.0]], [[0.4, 0.0]], [[0.0, 0.1]]]])
    weight = torch.tensor([[[1.0, 3.0]]])
    # (1 * 0.5 + 3 * 0.1) / 4.
    assert float(colour_distance_loss(rendered, photo, weight)) == pytest.approx(0.2)


def test_the_drawn_region_is_part_of_the_head(model: MorphableModel, face: ExplainedFace):
    region = FaceRenderer(model).region
    mesh = region(face.coefficients)
    assert isinstance(mesh, Mesh)
    whole = model.vertices(face.coefficients)[:, region.rows]
    # Only the lids differ much, by their corrections.
    assert ((mesh.vertices - whole).norm(dim=-1) < 1e-4).float().mean() > 0.9
    assert render(mesh, face.camera).mask.sum() > 0.1 * 2 * CROP**2
