"""The hair of a sample portrait: sound meshes outside the head, in the colours of the photo."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from lifemask.data.wearables.wardrobe import Wardrobe
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.hair.rays import MIDDLE
from lifemask.hair.styles import MESHES, STYLES, check_style
from lifemask.morphable.model import MorphableModel
from lifemask.perception.photo_segments import segmentation_at
from lifemask.pipeline.preview import photo_square
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.views import draw_smooth, face_camera


@pytest.fixture(scope="module")
def shell(face: FaceReconstruction) -> HeadOfHair:
    hair = face.hair
    assert (hair.style, hair.reason) == ("shell", "outline")
    assert hair.mesh is not None
    return hair.mesh


def test_a_shell_is_a_sound_mesh(shell: HeadOfHair) -> None:
    assert 2000 < len(shell.triangles) < 25_000
    assert sum(shell.layers) == len(shell.triangles)
    assert set(shell.triangles.unique().tolist()) == set(range(len(shell.vertices)))
    assert 0 <= float(shell.uv.min()) <= float(shell.uv.max()) <= 1
    torch.testing.assert_close(
        shell.normals.norm(dim=-1), torch.ones(len(shell.normals)), atol=1e-4, rtol=0
    )
    corners = shell.vertices[shell.triangles]
    facing = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = (facing * (corners.mean(1) - torch.tensor(MIDDLE))).sum(-1) > 0
    assert outward.float().mean() > 0.95


def test_the_mesh_ends_beyond_the_visible_border(shell: HeadOfHair) -> None:
    """Edges of a single triangle lie where the picture shows nothing, or where columns meet."""
    opacity = torch.from_numpy(shell.picture[..., 3]).float()
    height, width = opacity.shape
    for triangles in shell.triangles.split(shell.layers):
        sides = triangles[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(dim=-1).values
        edges, count = sides.unique(dim=0, return_counts=True)
        u, v = shell.uv[edges[count == 1]].mean(1).unbind(-1)
        top = float(shell.uv[triangles, 1].min()) + 2 / height
        inner = (u > 1e-3) & (u < 1 - 1e-3) & (v > top)
        seen = opacity[
            (v * height).long().clamp(max=height - 1), (u * width).long().clamp(max=width - 1)
        ]
        assert inner.sum() > 100
        assert float(seen[inner].max()) < 128


def test_the_shell_lies_outside_the_skull(face: FaceReconstruction, shell: HeadOfHair) -> None:
    scalp = face.model.regions["scalp"] > 0.9
    skull = face.model.vertices(face.neutral_coefficients)[scalp]
    distance, nearest = KDTree(skull.numpy()).query(shell.vertices.numpy())
    away = torch.from_numpy(distance).float() < 0.02
    middle = torch.tensor(MIDDLE)
    inner = (skull[nearest] - middle).norm(dim=-1)
    outer = (shell.vertices - middle).norm(dim=-1)
    assert ((outer - inner)[away] > -0.003).all()


def test_the_overlay_with_hair_is_nearer_to_the_photo(
    face: FaceReconstruction, shell: HeadOfHair
) -> None:
    size = 128
    camera, square = face_camera(face.camera, shell.vertices, size)
    photo = photo_square(face.photo.pixels, square, size)
    left, top, side = square
    steps = (torch.arange(size) + 0.5) / size * side
    places = torch.stack(torch.meshgrid(left + steps, top + steps, indexing="xy"), dim=-1)
    segments = segmentation_at(face.observation, places.view(-1, 2)).view(size, size, 6)
    above = face.camera.project(torch.tensor([MIDDLE]))[0, 1]
    hair = (segments[..., 1] > 0.8) & (places[..., 1] < above)
    assert int(hair.sum()) > 100

    def error(mesh: HeadOfHair | None) -> float:
        colour, opacity = draw_smooth(face.surface, camera, face.light, hair=mesh)
        covered = colour + (1 - opacity) * torch.ones(3)[:, None, None]
        return float((covered - photo).abs().mean(0)[hair].mean())

    assert error(shell) < 0.7 * error(None)


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_that_ships_is_a_style(face: FaceReconstruction, name: str) -> None:
    hair = replace(face, hair_style=name).hair
    assert (hair.style, hair.reason) == (name, "asked")
    assert hair.mesh is not None
    assert 0 < len(hair.mesh.triangles) < 25_000
    assert hair.mesh.picture.shape[-1] == 4
    assert np.abs(hair.mesh.vertices.numpy()).max() < 0.5


def test_styles_name_all_hair_that_ships(face: FaceReconstruction) -> None:
    model: MorphableModel = face.model
    names = Wardrobe.from_pretrained(model).of_kind("hair")
    assert sorted(names) == sorted(f"hair_{name}" for name in MESHES)


def test_none_is_a_painted_scalp(face: FaceReconstruction) -> None:
    hair = replace(face, hair_style="none").hair
    assert (hair.style, hair.reason, hair.mesh) == ("none", "asked", None)


def test_unknown_styles_are_refused() -> None:
    for style in STYLES:
        check_style(style)
    with pytest.raises(ValueError, match=r"hair 'mohawk'. Known: auto, none, shell, afro01"):
        check_style("mohawk")


def test_a_face_without_segmentation_has_no_shell(face: FaceReconstruction) -> None:
    blind = replace(face, observation=replace(face.observation, segmentation=None))
    assert (blind.hair.style, blind.hair.reason) == ("none", "unseen")


def test_a_pickled_face_has_the_same_hair(face: FaceReconstruction, shell: HeadOfHair) -> None:
    again = pickle.loads(pickle.dumps(face)).hair.mesh
    assert again is not None
    assert len(again.triangles) == pytest.approx(len(shell.triangles), rel=0.01)


def test_the_json_says_what_was_chosen(face: FaceReconstruction) -> None:
    entry = face.to_json_dict()["hair"]
    assert entry == {
        "asked": "auto",
        "style": "shell",
        "reason": "outline",
        "message": "The photo shows the outline of the hair.",
    }
