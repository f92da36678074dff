"""The converted networks agree with the originals, also in batches, and gradients are correct."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.perception import FacePerception
from lifemask.perception.weights import PERCEPTION_ASSETS
from lifemask.perception.yunet import STRIDES, decode

from .conftest import repeated


def test_face_mesh_agrees_with_the_original_runtime(perception, face, reference):
    with torch.inference_mode():
        output = perception.mesh.network(repeated(face, 2))
    # Pixels of a crop of 256.
    torch.testing.assert_close(output.points[0] * 256.0, reference["points"], atol=2e-3, rtol=0.0)
    torch.testing.assert_close(
        output.presence_logit, reference["presence_logit"], atol=2e-3, rtol=0.0
    )


def test_blendshapes_agree_with_the_original_runtime(perception, reference):
    with torch.inference_mode():
        scores = perception.blendshapes(reference["points"][:, :2])
    torch.testing.assert_close(scores[:51], reference["blendshapes"], atol=1e-4, rtol=0.0)
    assert scores[ARKIT_EXPRESSIONS.index("tongueOut")] == 0.0


def test_segmentation_agrees_with_the_original_runtime(perception, face, reference):
    with torch.inference_mode():
        probabilities = perception.segmentation(repeated(face, 2))[0, :, 4::8, 4::8]
    expected = reference["segmentation"]
    assert (probabilities.argmax(0) == expected.argmax(0)).float().mean() > 0.99
    # Half-precision weights: boundaries may move by a percent or two of probability.
    torch.testing.assert_close(probabilities, expected, atol=0.03, rtol=0.0)


def test_identity_agrees_with_dlib(perception, face, reference):
    with torch.inference_mode():
        embedding = perception.identity(F.pad(face, (11, 11, 11, 11)))[0]
    # Two photos of one person differ by up to 0.6; half-precision weights by a thousandth of that.
    assert (embedding - reference["embedding"]).norm() < 2e-3


def test_yunet_agrees_with_the_original_runtime(perception, face, reference):
    with torch.inference_mode():
        candidates = decode(perception.detector.network(repeated(face, 5)))
    level, cell = reference["yunet_level_and_cell"].tolist()
    stride = STRIDES[level]
    index = sum((640 // s) ** 2 for s in STRIDES[:level]) + cell
    origin = torch.tensor([cell % (640 // stride), cell // (640 // stride)])
    offset, log_size = reference["yunet_box"].split(2)
    centre, size = (origin + offset) * stride, log_size.exp() * stride
    box = torch.cat([centre - size / 2, centre + size / 2])
    points = (reference["yunet_points"].reshape(5, 2) + origin) * stride
    torch.testing.assert_close(candidates.boxes[0, index], box, atol=0.01, rtol=0.0)
    torch.testing.assert_close(candidates.keypoints[0, index], points, atol=0.01, rtol=0.0)
    torch.testing.assert_close(
        candidates.scores[0, index], reference["yunet_score"][0], atol=1e-4, rtol=0.0
    )


def test_a_batch_gives_what_its_images_give_alone(perception, face):
    crops = torch.cat([repeated(face, 2), repeated(face, 2).flip(-1) ** 2])
    with torch.inference_mode():
        together = perception.mesh.network(crops).points
        alone = torch.cat([perception.mesh.network(crop[None]).points for crop in crops])
        segmented = perception.segmentation(crops)
        single = torch.cat([perception.segmentation(crop[None]) for crop in crops])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(segmented, single, atol=1e-4, rtol=0.0)


def directional_derivative_error(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Return the relative difference between autograd and a central difference, double precision."""
    x = x.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(x), x)
    # Along the gradient itself the derivative is large, so rounding does not matter.
    direction = gradient / gradient.norm()
    step = 1e-5
    with torch.no_grad():
        difference = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
    return float((difference / gradient.norm() - 1.0).abs())


def test_gradients_agree_with_finite_differences(face):
    perception = FacePerception.from_pretrained()
    identity = perception.identity.double()
    chip = F.interpolate(face, size=150, mode="bilinear")
    assert directional_derivative_error(lambda x: identity(x).square().sum(), chip) < 1e-3
    mesh = perception.mesh.network.double()
    crop = repeated(face, 2)
    assert directional_derivative_error(lambda x: mesh(x).points[0, 1].sum(), crop) < 1e-3
    scores = perception.blendshapes.double()
    points = mesh(crop.double()).points[0, :, :2].detach()
    assert directional_derivative_error(lambda x: scores(x)[24], points) < 1e-3


def test_run_time_weights_stay_under_their_budget():
    files = list(PERCEPTION_ASSETS.iterdir())
    assert sum(file.stat().st_size for file in files) < 25e6
    for file in PERCEPTION_ASSETS.glob("*.safetensors"):
        assert load_file(file)
