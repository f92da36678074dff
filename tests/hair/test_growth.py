"""Hair grows until its outline meets that of the photo, and only where the photo allows it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.hair import rays
from lifemask.hair.growth import Growth, grow
from lifemask.hair.signs import HairSigns, hair_signs
from lifemask.hair.skull import Skull, skull_of
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.reconstruction import FaceReconstruction

SIZE = 256
BACKGROUND, HAIR, BODY, FACE, CLOTHES = range(5)


@pytest.fixture(scope="module")
def skull(face: FaceReconstruction) -> Skull:
    model: MorphableModel = face.model
    return skull_of(model, model.mean)


@pytest.fixture(scope="module")
def camera() -> PerspectiveCamera:
    """Return a camera that sees the skull's middle in the middle of the photo, from far away."""
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    away = torch.tensor([0.0, 0.0, 4.0])
    motion = rigid_transform(rotation, away - rotation @ torch.tensor(rays.MIDDLE))
    half = torch.tensor([SIZE / 2, SIZE / 2])
    return PerspectiveCamera(torch.tensor(4.0 * SIZE / 0.5), half, motion, (SIZE, SIZE))


def seen(face: FaceReconstruction, classes: Tensor) -> FaceObservation:
    """Return an observation of a photo with these classes; pixels of photo and crop are the same."""
    segmentation = torch.nn.functional.one_hot(classes, 6).permute(2, 0, 1).float()
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return replace(face.observation, segmentation=segmentation, segmentation_to_photo=identity)


def person(*, hair_metres: float | None, on_top: int = HAIR) -> Tensor:
    """Return a round face on a body, and around its upper half hair with a round outline.

    Args:
        hair_metres: radius of the hair around the middle of the skull; None for a bald head.
        on_top: class of what is on the scalp.
    """
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    x, y = (column - SIZE / 2) * 0.5 / SIZE, (SIZE / 2 - row) * 0.5 / SIZE
    classes = torch.full((SIZE, SIZE), BACKGROUND)
    classes[(y < -0.1) & (x.abs() < 0.08)] = BODY
    if hair_metres is None:
        classes[torch.hypot(x, y) < 0.1] = FACE
    else:
        classes[(torch.hypot(x, y) < hair_metres) & (y > -0.02)] = on_top
    classes[torch.hypot(x / 0.075, (y + 0.05) / 0.09) < 1] = FACE
    return classes


def signs(skull: Skull, camera: PerspectiveCamera, observation: FaceObservation) -> HairSigns:
    return hair_signs(skull, grow(skull, camera, observation), camera, observation)


@pytest.mark.parametrize("radius", [0.11, 0.14, 0.17])
def test_the_outline_of_the_hair_is_that_of_the_photo(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera, radius: float
) -> None:
    growth: Growth = grow(skull, camera, seen(face, person(hair_metres=radius)))
    origin, direction = rays.grid_rays(*growth.radius.shape)
    points = (origin + direction * growth.radius[..., None])[growth.cover > 0.5]
    flat = (points - torch.tensor(rays.MIDDLE))[:, :2]
    sectors = (torch.atan2(flat[:, 1], flat[:, 0]) / torch.pi * 12).floor()
    outline = torch.stack([flat.norm(dim=-1)[sectors == k].amax() for k in range(1, 11)])
    torch.testing.assert_close(outline, torch.full((10,), radius), atol=0.009, rtol=0)


def test_hair_on_which_ears_lie_goes_around_the_neck_below_them(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    classes = person(hair_metres=0.13)
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    x, y = (column - SIZE / 2) * 0.5 / SIZE, (SIZE / 2 - row) * 0.5 / SIZE
    beside = (x.abs() > 0.05) & (x.abs() < 0.13) & (classes != FACE)
    classes[beside & (y < 0.0) & (y > -0.19)] = HAIR
    classes[(x.abs() > 0.07) & (y < -0.03) & (y > -0.07)] = BACKGROUND
    cover = grow(skull, camera, seen(face, classes)).cover
    level = (
        rays.MIDDLE[1] + rays.ABOVE - (torch.arange(len(cover)) + 0.5) / len(cover) * rays.LENGTH
    )
    below = (level < -0.1) & (level > -0.14)
    assert float(cover[below][:, [0, 1, -2, -1]].min()) > 0.5


def test_hair_behind_the_ears_leaves_them_bare(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    x, y = (column - SIZE / 2) * 0.5 / SIZE, (SIZE / 2 - row) * 0.5 / SIZE
    classes = person(hair_metres=0.13)
    classes[(x.abs() > 0.05) & (x.abs() < 0.13) & (y < 0.0) & (y > -0.12)] = HAIR
    hidden = grow(skull, camera, seen(face, classes)).cover
    classes[(x.abs() < 0.1) & (y < 0.01) & (y > -0.08)] = FACE
    shown = grow(skull, camera, seen(face, classes)).cover
    _, direction = rays.grid_rays(*shown.shape)
    ears = (skull.ears > 0.9) & (direction[..., 2] > -0.15)
    assert float(shown[ears].max()) < 0.1
    assert float(hidden[ears].mean()) > 0.5


def test_hair_goes_on_above_the_upper_edge_of_the_photo(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    """The photo ends 25 mm below the top of the hair, and shows what is left and right of it."""
    cut = round(SIZE / 2 - 0.115 * SIZE / 0.5)
    lower = camera.cropped(0, cut, (SIZE - cut, SIZE))
    observation = seen(face, person(hair_metres=0.14))
    moved = observation.segmentation_to_photo - torch.tensor([[0.0, 0, 0], [0, 0, cut]])
    # The network sees nothing above the photo.
    assert observation.segmentation is not None
    dark = observation.segmentation.clone()
    dark[:, :cut] = torch.tensor([1.0, 0, 0, 0, 0, 0])[:, None, None]
    growth = grow(
        skull, lower, replace(observation, segmentation=dark, segmentation_to_photo=moved)
    )
    origin, direction = rays.grid_rays(*growth.radius.shape)
    points = (origin + direction * growth.radius[..., None])[growth.cover > 0.5]
    flat = (points - torch.tensor(rays.MIDDLE))[:, :2]
    sectors = (torch.atan2(flat[:, 1], flat[:, 0]) / torch.pi * 12).floor()
    outline = torch.stack([flat.norm(dim=-1)[sectors == k].amax() for k in range(1, 11)])
    torch.testing.assert_close(outline, torch.full((10,), 0.14), atol=0.02, rtol=0)


def test_no_hair_grows_on_the_face(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    growth = grow(skull, camera, seen(face, person(hair_metres=0.14)))
    origin, direction = rays.grid_rays(*growth.radius.shape)
    height = (origin + direction * skull.bare[..., None])[..., 1]
    front = (direction[..., 2] > 0.9) & (height.abs() < 0.03)
    assert growth.cover[front].max() < 0.2
    back = (direction[..., 2] < -0.8) & (height > 0)
    assert growth.cover[back].min() > 0.8


def test_a_full_head_of_hair_meets_no_objection(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    assert signs(skull, camera, seen(face, person(hair_metres=0.14))).objection() is None


@pytest.mark.parametrize(
    ("hair_metres", "on_top", "reason"),
    [(None, HAIR, "bald"), (0.14, CLOTHES, "covered"), (0.085, HAIR, "short")],
)
def test_doubtful_hair_is_not_made(
    face: FaceReconstruction,
    skull: Skull,
    camera: PerspectiveCamera,
    hair_metres: float | None,
    on_top: int,
    reason: str,
) -> None:
    observation = seen(face, person(hair_metres=hair_metres, on_top=on_top))
    objection = signs(skull, camera, observation).objection()
    assert objection is not None
    assert objection[0] == reason


def test_a_photo_that_ends_at_the_forehead_shows_too_little(
    face: FaceReconstruction, skull: Skull, camera: PerspectiveCamera
) -> None:
    cut = 100
    lower = camera.cropped(0, cut, (SIZE - cut, SIZE))
    observation = seen(face, person(hair_metres=0.14))
    moved = observation.segmentation_to_photo - torch.tensor([[0.0, 0, 0], [0, 0, cut]])
    objection = signs(skull, lower, replace(observation, segmentation_to_photo=moved)).objection()
    assert objection is not None
    assert objection[0] == "cropped"
