"""STL files hold closed bodies in millimetres; holes are closed by caps of least area."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lifemask.io.closing import boundary_loops, closed
from lifemask.io.scenes import Node, Scene
from lifemask.io.stl import write_stl


def corners_of(path: Path) -> np.ndarray:
    """Return the corners of each triangle, as the format's definition says."""
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    assert len(data) == 84 + 50 * count
    fields = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")]
    return np.frombuffer(data, fields, count, 84)["corners"]


def volume(corners: np.ndarray) -> float:
    return float(np.linalg.det(corners.astype(np.float64)).sum() / 6)


def test_half_a_ball_becomes_a_closed_body_in_millimetres(tmp_path: Path, scene: Scene) -> None:
    """Every edge of the body is used once in each direction, which no open mesh fulfils.

    The dome is 200 mm wide less its corners; the format's up is +Z, so its depth is along -Y.
    """
    head = replace(scene.nodes[0], surfaces=scene.nodes[0].surfaces[:1], children=())
    write_stl(tmp_path / "face.stl", Scene((replace(head, morph_weights=()),)))
    assert not (tmp_path / "face.stl").read_bytes().startswith(b"solid")
    corners = corners_of(tmp_path / "face.stl")
    _, vertex = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    triangles = vertex.reshape(-1, 3)
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there, back = np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0)
    assert len(there) == len(edges)
    np.testing.assert_array_equal(there, back)
    assert volume(corners) > 0, "triangles face outwards"
    positions = scene.nodes[0].surfaces[0].positions
    low, high = corners.reshape(-1, 3).min(0), corners.reshape(-1, 3).max(0)
    size = (high - low)[[0, 2]]
    np.testing.assert_allclose(size, np.ptp(positions, 0)[:2] * 1000, rtol=1e-5)
    np.testing.assert_allclose(low[1], -positions[:, 2].max() * 1000, rtol=1e-6)


def test_a_cap_has_the_least_area() -> None:
    """The rim of a box without lid is a rectangle of 2 by 1: its cap has the area 2."""
    x, y, z = np.meshgrid([0.0, 2.0], [0.0, 1.0], [0.0, 1.0], indexing="ij")
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    index = np.arange(8).reshape(2, 2, 2)
    sides = [index[0, ::-1], index[1], index[:, 0], index[::-1, 1], index[:, ::-1, 0]]
    quads = np.array([[s[0, 0], s[1, 0], s[1, 1], s[0, 1]] for s in sides])
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    (loop,) = boundary_loops(triangles)
    assert sorted(loop) == [1, 3, 5, 7]
    whole = closed(points, triangles)
    assert boundary_loops(whole) == []
    cap = points[whole[len(triangles) :]]
    areas = np.linalg.norm(np.cross(cap[:, 1] - cap[:, 0], cap[:, 2] - cap[:, 0]), axis=-1) / 2
    assert areas.sum() == pytest.approx(2)
    assert abs(volume(points[whole])) == pytest.approx(2)


def test_a_mesh_with_three_triangles_at_an_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="more than two triangles"):
        closed(np.eye(5, 3), np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))


def test_transparent_surfaces_are_left_out(tmp_path: Path, scene: Scene) -> None:
    head, eye = scene.nodes[0], scene.nodes[0].children[0]
    write_stl(tmp_path / "a.stl", Scene((replace(head, children=()), eye)))
    write_stl(
        tmp_path / "b.stl",
        Scene(
            (
                Node(
                    "head",
                    head.surfaces,
                    morph_names=head.morph_names,
                    morph_weights=head.morph_weights,
                ),
            )
        ),
    )
    assert (tmp_path / "a.stl").read_bytes() == (tmp_path / "b.stl").read_bytes()
