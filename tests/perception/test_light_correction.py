"""The correction reduces the influence of light on the points; in even light it does nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.io.colour import linear_from_srgb
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_mesh import FaceMeshHead, FaceMeshNetwork
from lifemask.perception.landmarks import FaceMesh, FaceMeshTopology
from lifemask.perception.weights import load_network
from lifemask.rendering import render

from .test_face_perception import eye_distance, fast


@pytest.fixture(scope="module")
def uncorrected() -> FaceMesh:
    network = load_network(FaceMeshNetwork(), "face_mesh", "face_mesh_profile")
    return FaceMesh(network, FaceMeshTopology.from_pretrained())


def test_without_a_correction_nothing_is_shifted():
    head, last = FaceMeshHead(), torch.randn(2, 128, 2, 2)
    assert not head.light_shift(last).any()


def test_a_correction_is_its_linear_function_of_the_features():
    torch.manual_seed(0)
    head, last = FaceMeshHead(), torch.randn(3, 128, 2, 2)
    reduce, expand, bias = torch.randn(5, 512), 0.01 * torch.randn(1434, 5), torch.randn(1434)
    head.set_light_correction(reduce, expand, bias)
    expected = (last.flatten(1) @ reduce.T @ expand.T + bias).view(3, 478, 3)
    torch.testing.assert_close(head.light_shift(last), expected, atol=1e-4, rtol=1e-4)


def lamp_photo(photo: np.ndarray, normals: torch.Tensor, azimuth_radians: float) -> np.ndarray:
    """Return a photo's face times the shading of one lamp without other light; grey, linear."""
    lamp = torch.tensor([math.sin(azimuth_radians), 0.2, math.cos(azimuth_radians)])
    shading = (normals * lamp[:, None, None]).sum(0).clamp(min=0.03)
    grey = linear_from_srgb(torch.from_numpy(photo).float() / 255).mean(-1) * shading
    grey = (grey / grey.quantile(0.98) * 230).clamp(0, 255)
    return grey.to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous().numpy()


def test_a_lamp_shifts_points_on_tight_crops_less_than_without_the_correction(
    perception, uncorrected, portrait
):
    seen = fast(perception, portrait)
    fitter = FaceFitter(MorphableModel.from_pretrained(), FitConfig.preset("fast"))
    fit = fitter(portrait, seen)
    head = opaque_mesh(fitter.model, fitter.model.vertices(fit.face.coefficients))
    normals = render(head, fit.face.camera).normals
    low, high = seen.landmarks478[:, :2].amin(0), seen.landmarks478[:, :2].amax(0)
    (left, top), (right, bottom) = (
        (low * 0.96 + high * 0.04).int(),
        (high * 0.96 + low * 0.04).int(),
    )
    followed: list[float] = []
    for mesh in (perception.mesh, uncorrected):
        points = [
            replace(perception, mesh=mesh)
            .observe_crop(
                lamp_photo(
                    portrait[top:bottom, left:right], normals[:, top:bottom, left:right], azimuth
                ),
                quality="fast",
            )
            .landmarks478[:, :2]
            for azimuth in (0.0, -0.9, 0.9)
        ]
        moved = torch.stack(points[1:]) - points[0]
        followed.append(float(moved.norm(dim=-1).mean()) / eye_distance(seen))
    assert followed[0] < 0.8 * followed[1]


def test_points_of_evenly_lit_portraits_stay_where_they_were(perception, uncorrected, portrait):
    region = uncorrected.region_around(fast(perception, portrait).landmarks478)[None]
    before, after = (m.find(portrait, region).points[0] for m in (uncorrected, perception.mesh))
    moved = (after - before)[:, :2].norm(dim=-1).mean() / eye_distance(fast(perception, portrait))
    assert moved < 0.025
