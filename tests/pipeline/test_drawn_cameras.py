"""The shape of a drawn head depends on neither its distance nor its place in the photo."""

import numpy as np
import pytest
import torch

from lifemask.fitting.fit import FaceFit
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.io.colour import pixels_from_image
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.pipeline.views import camera_towards, draw_smooth

PIXELS_PER_METRE = 900.0


def drawn(
    face: FaceReconstruction, *, distance: float, degrees: float = 0.0
) -> tuple[np.ndarray, PerspectiveCamera]:
    """Draw a head that looks into the camera, so many degrees to the right of the optical axis."""
    head = face.model.vertices(face.coefficients)[face.model.regions["face"] > 0.5]
    camera = camera_towards(head, distance, pixels_per_metre=PIXELS_PER_METRE, degrees=degrees)
    colour, opacity = draw_smooth(face.surface, camera, face.light)
    return pixels_from_image(colour + (1 - opacity) * 0.3), camera


def explained(
    fast_reconstructor: FaceReconstructor, pixels: np.ndarray, *, focal_pixels: float | None
) -> FaceFit:
    (found,) = fast_reconstructor.perception.detect(pixels)[:1]
    seen = fast_reconstructor.perception.observe(pixels, found, quality="fast", segment=True)
    return fast_reconstructor.explain(pixels, seen, focal_pixels=focal_pixels)


def difference(first: FaceFit, second: FaceFit) -> float:
    """Return the root mean square difference of two people, in standard deviations."""
    a, b = (found.face.coefficients.identity for found in (first, second))
    return float((a - b).square().mean().sqrt())


@pytest.fixture(scope="module")
def ahead(face: FaceReconstruction, fast_reconstructor: FaceReconstructor) -> FaceFit:
    pixels, camera = drawn(face, distance=0.8)
    return explained(fast_reconstructor, pixels, focal_pixels=float(camera.focal_pixels))


def test_a_head_beside_the_axis_is_the_head_on_it(
    face: FaceReconstruction, fast_reconstructor: FaceReconstructor, ahead: FaceFit
) -> None:
    pixels, camera = drawn(face, distance=0.8, degrees=35)
    focal = float(camera.focal_pixels)
    found = explained(fast_reconstructor, pixels, focal_pixels=focal)
    assert found.focal_dropped is None
    assert difference(found, ahead) < 0.08
    torch.testing.assert_close(
        found.face.camera.principal_point, camera.principal_point, atol=1e-3, rtol=0
    )


@pytest.mark.xfail(strict=True, reason="3.5 px: predicted points of drawn heads err by one percent")
def test_a_head_beside_the_axis_lies_over_its_picture(
    face: FaceReconstruction, fast_reconstructor: FaceReconstructor
) -> None:
    pixels, camera = drawn(face, distance=0.8, degrees=35)
    found = explained(fast_reconstructor, pixels, focal_pixels=float(camera.focal_pixels))
    # To about half a percent of the face.
    head = face.model.regions["face"] > 0.5
    there, here = (
        each.project(face.model.vertices(coefficients)[head])[:, :2]
        for each, coefficients in (
            (camera, face.coefficients),
            (found.face.camera, found.face.coefficients),
        )
    )
    assert float((there - here).norm(dim=-1).mean()) < 1.5


def test_a_wrong_focal_length_does_not_matter_beside_the_axis(
    face: FaceReconstruction, fast_reconstructor: FaceReconstructor
) -> None:
    """As on a photo that was cropped, but kept the focal length of the whole."""
    pixels, camera = drawn(face, distance=0.8, degrees=35)
    found = explained(fast_reconstructor, pixels, focal_pixels=0.2 * float(camera.focal_pixels))
    free = explained(fast_reconstructor, pixels, focal_pixels=None)
    assert found.focal_dropped is not None
    assert difference(found, free) == 0
    assert torch.equal(found.face.camera.principal_point, free.face.camera.principal_point)


# The nearer the camera, the more of the perspective a network takes for the shape.
NEAR = pytest.param(
    0.25, marks=pytest.mark.xfail(strict=True, reason="0.12 sigma from the head at 0.8 m")
)


HALF_A_METRE, FAR = (
    pytest.param(distance, marks=pytest.mark.xfail(strict=True, reason=reason))
    for distance, reason in (
        (0.5, "0.091 sigma since fits start from the flagship"),
        (3.0, "0.085 sigma since fits start from the flagship"),
    )
)


@pytest.mark.parametrize("distance", [NEAR, HALF_A_METRE, 1.0, FAR])
def test_the_shape_does_not_depend_on_the_distance(
    face: FaceReconstruction, fast_reconstructor: FaceReconstructor, ahead: FaceFit, distance: float
) -> None:
    pixels, camera = drawn(face, distance=distance)
    found = explained(fast_reconstructor, pixels, focal_pixels=float(camera.focal_pixels))
    assert found.focal_dropped is None
    depth = float(found.face.camera.world_to_camera[2, 3])
    assert depth == pytest.approx(float(camera.world_to_camera[2, 3]), rel=0.08)
    assert difference(found, ahead) < 0.08
