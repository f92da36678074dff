"""Heads that are read from GLB files look like the saved heads in any light."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.gltf import write_glb
from lifemask.io.gltf_reader import read_glb
from lifemask.io.images import encode_image
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.pipeline.saved import SavedHeadError, read_head
from lifemask.pipeline.turntable import turntable_frames

CAMERA = {
    "focal_pixels": 1000.0,
    "principal_point": [200.0, 150.0],
    "head_to_camera": [[1, 0, 0, 0.02], [0, -1, 0, 0], [0, 0, -1, 1.0], [0, 0, 0, 1]],
    "image_size": [300, 400],
}


def ball(radius: float, material: SurfaceMaterial, *, size: int = 24) -> Surface:
    """Return a ball around the origin with a texture seam at the back."""
    polar = np.linspace(0, np.pi, size)[:, None]
    around = np.linspace(-np.pi, np.pi, size)[None]
    x, y, z = (
        np.sin(polar) * np.sin(around),
        np.cos(polar) + 0 * around,
        np.sin(polar) * np.cos(around),
    )
    normals = np.stack([x, y, z], -1).reshape(-1, 3).round(6).astype(np.float32)
    index = np.arange(size * size).reshape(size, size)
    a, b, c, d = (
        part.reshape(-1)
        for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
    )
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1)
    return Surface(
        positions=normals * np.float32(radius),
        triangles=np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]),
        normals=normals,
        uv=np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32),
        material=material,
    )


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    grey = encode_image(np.full((16, 16, 3), 188, np.uint8), "png")
    skin = ball(0.1, SurfaceMaterial("Skin", base_colour_image=grey))
    nose = SurfaceMaterial("Nose", base_colour=(0.5, 0.0, 0.0, 1.0))
    tip = dataclasses.replace(ball(0.02, nose), uv=None)
    nodes = (Node("Head", (skin,), children=(Node("Nose", (tip,), (0.0, 0.0, 0.1)),)),)
    write_glb(tmp_path / "ada.glb", Scene(nodes, extras={"camera": CAMERA}))
    return tmp_path / "ada.glb"


def test_head_in_plain_light_shows_its_colours(head_file: Path) -> None:
    """A grey of sRGB 188 is linear 0.5; the background is transparent."""
    picture = read_head(head_file).draw(SphericalHarmonicsLight.ambient(1.0), size=64)
    assert picture.shape == (64, 64, 4)
    assert np.abs(picture[12, 32, :3].astype(int) - 188).max() <= 1
    np.testing.assert_allclose(picture[32, 32], [188, 0, 0, 255], atol=1)
    assert picture[1, 1, 3] == 0


def test_lamp_at_the_left_lights_the_left_of_the_picture(head_file: Path) -> None:
    head = read_head(head_file)
    left, right = (
        head.draw(SphericalHarmonicsLight.from_direction(sign * 1.0, 0.0), size=64, opaque=True)
        for sign in (-1, 1)
    )
    assert left.shape == (64, 64, 3)
    assert left[20, 10].mean() > left[20, 54].mean() + 40
    assert np.abs(left.astype(int) - right[:, ::-1]).mean() < 3


def test_texture_seam_does_not_show(head_file: Path) -> None:
    """After a rotation by 180 degrees, the seam of the ball faces the camera."""
    scene = read_glb(head_file)
    half_rotation = [[-1, 0, 0, 0.02], [0, -1, 0, 0], [0, 0, 1, 1.0], [0, 0, 0, 1]]
    only_ball = dataclasses.replace(scene.nodes[0], children=())
    extras = {"camera": CAMERA | {"head_to_camera": half_rotation}}
    write_glb(head_file, Scene((only_ball,), extras))
    light = SphericalHarmonicsLight.from_direction(1.0, 0.0)
    picture = read_head(head_file).draw(light, size=128, opaque=True).astype(int)
    steps = np.abs(np.diff(picture[64, 40:88, 0]))
    assert steps.max() <= 4


def test_surfaces_behind_lashes_are_visible(head_file: Path) -> None:
    """A second ball around the first has a texture with a transparent left half and a red right half."""
    scene = read_glb(head_file)
    red = np.zeros((32, 32, 4), np.uint8)
    red[..., 0], red[:, 16:, 3] = 255, 255
    veil = SurfaceMaterial(
        "Veil", base_colour_image=encode_image(red, "png"), alpha_mode="BLEND", double_sided=False
    )
    (head,) = scene.nodes
    # First in the file, so that the order of drawing does not follow that of the surfaces.
    veiled = dataclasses.replace(head, surfaces=(ball(0.11, veil), *head.surfaces), children=())
    write_glb(head_file, Scene((veiled,), scene.extras))
    picture = read_head(head_file).draw(SphericalHarmonicsLight.ambient(1.0), size=64)
    np.testing.assert_allclose(picture[32, 20], [188, 188, 188, 255], atol=1)
    np.testing.assert_allclose(picture[32, 44], [255, 0, 0, 255], atol=1)
    assert picture[32, 3, 3] == 0, "the clear half covers nothing"


def document(**changes: object) -> dict[str, object]:
    """Return the parts of NAME.json that say which head it describes."""
    camera = {name: CAMERA[name] for name in ("focal_pixels", "principal_point", "head_to_camera")}
    return {"photo": {"width": 400, "height": 300}, "camera": camera | changes}


def test_json_names_the_head_beside_it_only_if_it_describes_it(head_file: Path) -> None:
    named = head_file.with_suffix(".json")
    named.write_text(json.dumps(document(focal_pixels=1000.0004)))
    assert read_head(named).camera.image_size == (300, 400)
    named.write_text(json.dumps(document(focal_pixels=1010.0)))
    with pytest.raises(SavedHeadError, match="not from the same head: their cameras differ"):
        read_head(named)
    for text in ("{}", "[]", "not JSON", '{"photo": null}'):
        named.write_text(text)
        with pytest.raises(SavedHeadError, match=r"ada\.json' does not describe a head"):
            read_head(named)


def test_other_files_are_refused_with_a_reason(tmp_path: Path, head_file: Path) -> None:
    for name in ("missing.json", "missing.glb"):
        with pytest.raises(SavedHeadError, match=f"{name}.*lifemask reconstruct"):
            read_head(tmp_path / name)
    write_glb(head_file, Scene(read_glb(head_file).nodes))
    with pytest.raises(SavedHeadError, match="holds no camera"):
        read_head(head_file)


FRONT = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"focal_pixels": 0}, r"focal_pixels is 0; a number from 1 to"),
        ({"focal_pixels": None}, r"focal_pixels is null; a number"),
        ({"image_size": [2, 2]}, r"image_size\[0\] is 2; a whole number from 16 to"),
        ({"image_size": [300]}, r"image_size is a list of 1; a height and a width"),
        ({"principal_point": []}, r"principal_point is a list of 0; a list of 2 numbers"),
        ({"head_to_camera": [[1, 0], [0, 1]]}, r"head_to_camera is a list of 2; a list of 4 x 4"),
        ({"head_to_camera": np.zeros((4, 4)).tolist()}, "a rotation, a translation and the row"),
        ({"head_to_camera": np.eye(4).tolist()}, "camera is in the head or turned away"),
        ({"head_to_camera": [*FRONT[:2], [0, 0, -1, -5], FRONT[3]]}, "turned away"),
    ],
)
def test_cameras_that_cannot_see_the_head_are_refused(
    head_file: Path, changes: dict[str, object], message: str
) -> None:
    scene = read_glb(head_file)
    write_glb(head_file, dataclasses.replace(scene, extras={"camera": CAMERA | changes}))
    with pytest.raises(SavedHeadError, match=message):
        read_head(head_file)


def test_files_without_surfaces_are_refused(tmp_path: Path) -> None:
    write_glb(tmp_path / "a.glb", Scene((), {"camera": CAMERA}))
    with pytest.raises(SavedHeadError, match="no surfaces"):
        read_head(tmp_path / "a.glb")


def test_a_head_that_shows_only_its_inside_gives_no_empty_picture(head_file: Path) -> None:
    scene = read_glb(head_file)
    (ball_surface,) = scene.nodes[0].surfaces
    inside_out = dataclasses.replace(ball_surface, triangles=ball_surface.triangles[:1, ::-1])
    write_glb(head_file, Scene((Node("Head", (inside_out,)),), scene.extras))
    with pytest.raises(SavedHeadError, match="Nothing of the head is visible"):
        read_head(head_file).draw(SphericalHarmonicsLight.ambient(), size=16)


def test_heads_of_earlier_versions_are_drawn() -> None:
    """The file has one node with skin, eyes and lashes, as the first version wrote them.

    Its expression moves all by 5 mm to the right of the picture: 5 pixels of 400.
    """
    head = read_head(Path(__file__).with_name("head_without_skeleton.glb"))
    (node,) = head.scene.nodes
    assert node.name == "Head"
    picture = head.draw(SphericalHarmonicsLight.ambient(1.0), size=64)
    assert picture[20, 20, 3] == 255
    np.testing.assert_allclose(picture[20, 20, :3], 188, atol=3)
    red = (picture[..., 0] > 150) & (picture[..., 1] < 20) & (picture[..., 3] == 255)
    blue = (picture[..., 2] > 200) & (picture[..., 0] < 60) & (picture[..., 3] == 255)
    assert red.sum() > 20
    assert blue.sum() > 20
    whole = head.picture(head.camera, SphericalHarmonicsLight.ambient(1.0))
    # Above the lashes, which are opaque on one side only.
    columns = np.flatnonzero((whole[:120, :, 3] > 128).any(0))
    assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(200 + 20 + 5, abs=1)


def test_a_turntable_shows_the_head_from_all_sides(head_file: Path) -> None:
    """The nose is in the middle of the first frame, at the side of the next, then behind the head."""
    frames = list(turntable_frames(read_head(head_file), frames=4, size=64))
    red = [(frame[..., 0] > 40) & (frame[..., 1] < 20) for frame in frames]
    x = [np.flatnonzero(part.any(0)) for part in red]
    assert abs(x[0].mean() - 31.5) < 1
    assert abs(x[1].mean() - 31.5) > 15
    assert len(x[2]) == 0
    assert x[1].mean() + x[3].mean() == pytest.approx(63, abs=1.5)
    heads = [(frame != frame[0, 0]).any(-1).sum() for frame in frames]
    assert all(64 * 64 / 3 < count < 64 * 64 for count in heads)
