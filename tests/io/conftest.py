"""A small textured head-like scene with seams, morph targets and attached parts."""

from dataclasses import replace

import numpy as np
import pytest

from lifemask.io.images import encode_image
from lifemask.io.scenes import Joint, Node, Scene, Surface, SurfaceMaterial


def dome(size: int = 12) -> Surface:
    """Return half a ball of 10 cm, open at the back, with a seam in the middle of the texture."""
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1)
    x, y = 2 * columns - 1, 1 - 2 * rows
    normals = np.stack([x, y, np.sqrt(3 - x**2 - y**2)], -1).reshape(-1, 3) / np.sqrt(3)
    index = np.arange(size * size).reshape(size, size)
    a, b, c, d = (
        corner.reshape(-1)
        for corner in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
    )
    triangles = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3)
    uv = np.stack([columns, rows], -1).reshape(-1, 2)
    # Triangles of the right half use their own copy of the coordinates, a little inwards.
    right = np.repeat(columns.reshape(-1)[triangles[::2]].mean(-1) > 0.5, 2)
    places = np.where(right[:, None], triangles + size * size, triangles)
    rng = np.random.default_rng(0)
    base = (rng.random((16, 16, 3)) * 255).astype(np.uint8)
    flat = np.full((8, 8, 3), (128, 128, 255), np.uint8)
    return Surface(
        positions=(normals * 0.1).astype(np.float32),
        triangles=triangles,
        normals=normals.astype(np.float32),
        uv=np.concatenate([uv * 0.98, uv * 0.98 + 0.01]).astype(np.float32),
        uv_triangles=places,
        material=SurfaceMaterial(
            "skin",
            base_colour_image=encode_image(base, "jpeg"),
            normal_image=encode_image(flat, "png"),
            metallic_roughness_image=encode_image(flat, "png"),
            occlusion_image=encode_image(np.full((8, 8, 3), (200, 90, 0), np.uint8), "png"),
            roughness=0.7,
        ),
        morphs=np.stack(
            [
                np.where(normals[:, 1:2] < -0.4, (0, -0.02, 0), 0),
                np.where(normals[:, 2:3] > 0, (0, 0, 0.01), 0),
                np.zeros_like(normals),
            ]
        ).astype(np.float32),
    )


@pytest.fixture
def scene() -> Scene:
    head = dome()
    glass = SurfaceMaterial(
        "cornea", (1.0, 1.0, 1.0, 0.2), metallic=0.5, alpha_mode="BLEND", double_sided=True
    )
    plain = Surface(head.positions * 0.1, head.triangles, head.normals, material=glass)
    eyes = [
        Node(f"eye_{side}", (plain,), translation=(sign * 0.03, 0.01, 0.1))
        for side, sign in (("left", 1.0), ("right", -1.0))
    ]
    return Scene(
        (
            Node(
                "head",
                (head, Surface(plain.positions, plain.triangles, morphs=head.morphs)),
                morph_names=("jawOpen", "puff", "none"),
                morph_weights=(0.5, 0.0, 0.0),
                children=tuple(eyes),
                extras={"note": "ä"},
            ),
        ),
        extras={"camera": {"focal_pixels": 1000.5}},
        copyright="Photo: Somebody\nCC BY 4.0",
    )


@pytest.fixture
def skinned(scene: Scene) -> Scene:
    """Return the head alone, of quads, with a skeleton: its lower half follows the jaw."""
    head = scene.nodes[0].surfaces[0]
    below = head.positions[:, 1] < 0
    weights = np.stack([~below, below], -1).astype(np.float32)
    surface = replace(head, joint_weights=weights, quads=True)
    node = replace(scene.nodes[0], surfaces=(surface,), children=())
    neck = Joint("neck_joint", (0.0, -0.1, 0.0))
    jaw = Joint("jaw_joint", (0.0, 0.02, 0.03), parent=0)
    return Scene((node,), skeleton=(neck, jaw))
