"""OBJ and PLY files hold the head with its texture, also for other readers."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.io.images import encode_image
from lifemask.io.obj import write_obj
from lifemask.io.ply import write_ply
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import split_at_seams


def rows(text: str, keyword: str) -> np.ndarray:
    lines = re.findall(rf"^{keyword} (.*)$", text, re.MULTILINE)
    return np.array([[float(x) for x in line.split()] for line in lines])


def test_obj_holds_the_corners_of_every_surface(tmp_path: Path, scene: Scene) -> None:
    write_obj(tmp_path / "face.obj", scene)
    text = (tmp_path / "face.obj").read_text()
    positions, uv, normals = (rows(text, keyword) for keyword in ("v", "vt", "vn"))
    objects = re.split(r"^o .*$", text, flags=re.MULTILINE)[1:]
    surfaces = [surface for _, surface in scene.at_rest()]
    assert len(objects) == len(surfaces) == 4
    for block, surface in zip(objects, surfaces, strict=True):
        corners = [
            [corner.split("/") for corner in line.split()]
            for line in re.findall(r"^f (.*)$", block, re.MULTILINE)
        ]
        point = np.array([[int(corner[0]) - 1 for corner in line] for line in corners])
        np.testing.assert_allclose(
            positions[point], surface.positions[surface.triangles], atol=1e-7
        )
        if surface.normals is not None:
            direction = np.array([[int(corner[2]) - 1 for corner in line] for line in corners])
            np.testing.assert_allclose(
                normals[direction], surface.normals[surface.triangles], atol=1e-6
            )
        if surface.uv is not None:
            place = np.array([[int(corner[1]) - 1 for corner in line] for line in corners])
            expected = surface.uv[surface.uv_triangles] * (1, -1) + (0, 1)
            np.testing.assert_allclose(uv[place], expected, atol=1e-6)


def test_obj_names_the_files_beside_it(tmp_path: Path, scene: Scene) -> None:
    files = write_obj(tmp_path / "my face.obj", scene)
    assert sorted(file.name for file in files) == sorted(os.listdir(tmp_path))
    text, materials = files[0].read_text(), files[1].read_text()
    assert "mtllib my_face.mtl" in text
    assert "# CC BY 4.0" in text
    assert set(re.findall(r"usemtl (\S+)", text)) == set(re.findall(r"newmtl (\S+)", materials))
    images = re.findall(r"^(?:map_\w+|norm)(?: -bm 1)? (\S+)$", materials, re.MULTILINE)
    occlusion = "my_face_skin_occlusion.png"
    assert {*images, occlusion} == {file.name for file in files[2:]}
    assert occlusion not in images, "material files have no word for it"
    with Image.open(tmp_path / occlusion) as image:
        assert np.unique(np.asarray(image)).tolist() == [200], "occlusion is the red channel"
    with Image.open(tmp_path / "my_face_skin_roughness.png") as image:
        assert np.unique(np.asarray(image)).tolist() == [128], "roughness is the green channel"


def test_scene_at_rest_has_its_morphs_applied_and_parts_moved(scene: Scene) -> None:
    """The jaw is half open, with a weight of 0.5 of 2 cm."""
    (_, head), _, (_, eye), _ = scene.at_rest()
    original = scene.nodes[0].surfaces[0]
    np.testing.assert_allclose(head.positions, original.positions + 0.5 * original.morphs[0])
    expected = scene.nodes[0].children[0].surfaces[0].positions + np.float32([0.03, 0.01, 0.1])
    np.testing.assert_allclose(eye.positions, expected, atol=1e-7)


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    header, body = path.read_bytes().split(b"end_header\n", 1)
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [
        (name, kinds[kind])
        for kind, name in re.findall(r"^property (float|uchar) (\w+)$", header.decode(), re.M)
    ]
    vertices, triangles = (
        int(re.search(rf"element {name} (\d+)", header.decode())[1]) for name in ("vertex", "face")
    )
    points = np.frombuffer(body, fields, vertices)
    rest = np.frombuffer(body[points.nbytes :], [("n", "u1"), ("i", "<i4", 3)])
    assert len(rest) == triangles
    assert (rest["n"] == 3).all()
    return points, rest["i"]


def test_ply_holds_all_surfaces_as_one_mesh(tmp_path: Path, scene: Scene) -> None:
    write_ply(tmp_path / "face.ply", scene)
    points, triangles = read_ply(tmp_path / "face.ply")
    surfaces = [split_at_seams(surface) for _, surface in scene.at_rest()]
    corners = np.concatenate([s.positions[s.triangles] for s in surfaces])
    stored = np.stack([points[axis] for axis in "xyz"], -1)[triangles]
    np.testing.assert_array_equal(stored, corners)


def test_ply_colours_are_those_of_the_texture() -> None:
    """At the centres of two texels, colours are theirs; halfway they are the mean; outside no wrap."""
    from lifemask.io.ply import _vertex_colours

    texture = np.array([[[200, 0, 0], [0, 100, 0]]], np.uint8)
    uv = np.array([[0.25, 0.5], [0.75, 0.5], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]], np.float32)
    surface = Surface(
        np.zeros((5, 3), np.float32),
        np.array([[0, 1, 2]]),
        uv=uv,
        material=SurfaceMaterial("skin", base_colour_image=encode_image(texture, "png")),
    )
    expected = [[200, 0, 0], [0, 100, 0], [100, 50, 0], [200, 0, 0], [0, 100, 0]]
    assert _vertex_colours(surface).tolist() == expected


def test_other_readers_agree(tmp_path: Path, scene: Scene) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh serves as a second opinion")
    write_ply(tmp_path / "face.ply", scene)
    mesh = trimesh.load(tmp_path / "face.ply", process=False)
    assert len(mesh.faces) == sum(len(surface.triangles) for _, surface in scene.at_rest())
    write_obj(tmp_path / "face.obj", Scene((Node("head", scene.nodes[0].children[0].surfaces),)))
    again = trimesh.load(tmp_path / "face.obj", process=False)
    surface = scene.nodes[0].children[0].surfaces[0]
    np.testing.assert_allclose(again.vertices, surface.positions, atol=1e-6)


def test_obj_keeps_quads(tmp_path: Path, skinned: Scene) -> None:
    """The two halves of each quad are its corners 0, 1, 2 and 0, 2, 3."""
    write_obj(tmp_path / "face.obj", skinned)
    text = (tmp_path / "face.obj").read_text()
    quads = [
        [int(corner.split("/")[0]) - 1 for corner in line.split()]
        for line in re.findall(r"^f (.*)$", text, re.MULTILINE)
    ]
    assert {len(quad) for quad in quads} == {4}
    halves = np.array(quads)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    np.testing.assert_array_equal(halves, skinned.nodes[0].surfaces[0].triangles)
