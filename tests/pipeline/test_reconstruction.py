"""Cropped and mirrored photos give the same head, and the drawn head looks like the photo."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lifemask.io.colour import image_from_pixels
from lifemask.morphable import FaceCoefficients
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.rendering import render
from lifemask.texture.face_texture import TexelOrigin

ACROSS = torch.tensor([-1.0, 1.0, 1.0])
"""Mirrors head space from side to side."""


def face_vertices(face: FaceReconstruction, coefficients: FaceCoefficients) -> Tensor:
    """Return all vertices, so that the mirror map applies; zero outside the face."""
    return face.model.vertices(coefficients) * (face.model.regions["face"] > 0.5)[:, None]


def largest_millimetres(a: Tensor, b: Tensor) -> float:
    return 1000 * float((a - b).norm(dim=-1).max())


def degrees_apart(a: Tensor, b: Tensor) -> float:
    cosine = (float(torch.trace(a.T @ b)) - 1) / 2
    return math.degrees(math.acos(min(cosine, 1.0)))


def rotation(face: FaceReconstruction) -> Tensor:
    return face.camera.world_to_camera[:3, :3]


def test_the_head_in_its_own_light_looks_like_the_photo(face: FaceReconstruction) -> None:
    """They are compared on observed texels; only specular light and cast shadows differ."""
    photo, drawn = image_from_pixels(face.photo.pixels), face.render()
    observed = (face.texture.origin == TexelOrigin.OBSERVED).float().expand(3, -1, -1)
    own = render(face.mesh, face.camera, texture=observed.contiguous()).albedo[0] > 0.99
    assert own.sum() > 0.3 * drawn.mask.sum()
    error = (drawn.colour - photo)[:, own]
    assert error.abs().mean() < 0.03
    assert error.mean(-1).abs().max() < 0.03


def test_pixels_cut_off_the_photo_do_not_change_the_head(
    face: FaceReconstruction, reconstructor: FaceReconstructor
) -> None:
    (cut,) = reconstructor(np.ascontiguousarray(face.photo.pixels[23:, 37:]))
    shapes = (face_vertices(face, other.coefficients) for other in (face, cut))
    assert largest_millimetres(*shapes) < 1.0
    corner = torch.tensor([37.0, 23.0])
    before, after = (other.camera.project(other.mesh.vertices)[:, :2] for other in (face, cut))
    skin = face.model.regions["face"] > 0.5
    apart = (before - corner - after)[skin].norm(dim=-1)
    assert apart.mean() < 0.01 * (before[skin].amax(0) - before[skin].amin(0)).max()


def test_the_mirrored_photo_has_the_mirrored_head(
    face: FaceReconstruction, reconstructor: FaceReconstructor
) -> None:
    mirror, names = face.model.mirror, face.model.expression_names
    assert mirror is not None
    (other,) = reconstructor(np.ascontiguousarray(face.photo.pixels[:, ::-1]))
    pairs = (
        (face.neutral_coefficients, other.neutral_coefficients),
        (face.coefficients, other.coefficients),
    )
    for mine, theirs in pairs:
        mirrored = face_vertices(face, theirs)[mirror] * ACROSS
        assert largest_millimetres(face_vertices(face, mine), mirrored) < 1.5
    sides = {"Left": "Right", "Right": "Left"}
    swapped = [
        next((name.removesuffix(a) + b for a, b in sides.items() if name.endswith(a)), name)
        for name in names
    ]
    expression = other.coefficients.expression[[names.index(name) for name in swapped]]
    assert (face.coefficients.expression - expression).abs().max() < 0.1
    turned = torch.diag(ACROSS) @ rotation(other) @ torch.diag(ACROSS)
    assert degrees_apart(rotation(face), turned) < 1.0


def test_a_head_of_one_colour_is_clay(face: FaceReconstruction) -> None:
    drawn = face.render(clay=True)
    inside = drawn.albedo[:, drawn.mask > 0]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.55))


def test_confidence_is_a_share(face: FaceReconstruction) -> None:
    assert 0.5 < face.confidence <= 1


def test_unknown_formats_are_refused(face: FaceReconstruction) -> None:
    with pytest.raises(
        ValueError, match=r"Known formats: \['.glb', '.obj', '.ply', '.stl', '.usdz'\]"
    ):
        face.save("head.fbx")


def test_a_photo_without_a_face_has_no_heads(reconstructor: FaceReconstructor) -> None:
    assert reconstructor(np.full((200, 200, 3), 128, np.uint8)) == []
