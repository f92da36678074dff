"""The mean of several explanations of one face, with everything that they may predict."""

from dataclasses import replace

import torch
from tiny_head import ALBEDO, IDENTITY, tiny_camera
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import named_tensors
from lifemask.morphable.averaging import average_faces
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks, UVMap

WEIGHTS = torch.tensor([3.0, 1.0])


def stacked(first: object, second: object) -> Tensor:
    return torch.stack([torch.as_tensor(first).float(), torch.as_tensor(second).float()])


def two_faces() -> ExplainedFace:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator)

    coefficients = FaceCoefficients(normal(IDENTITY), normal(52), normal(2, 2), normal(ALBEDO))
    return ExplainedFace(coefficients, tiny_camera(8, (2,)), SphericalHarmonicsLight(normal(9, 3)))


def test_values_are_weighted_and_what_nobody_predicts_stays_unknown() -> None:
    faces = two_faces()
    found = average_faces(faces, WEIGHTS)
    identity = faces.coefficients.identity
    torch.testing.assert_close(found.coefficients.identity, 0.75 * identity[0] + 0.25 * identity[1])
    unknown = (
        found.albedo_map, found.displacement_map, found.light_map, found.depth, found.landmarks
    )  # fmt: skip
    assert all(part is None for part in unknown)


def test_two_equal_faces_are_their_mean_with_all_their_parts() -> None:
    generator = torch.Generator().manual_seed(1)

    def same(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).expand(2, *shape)

    covered = (same(4, 4) > 0.5).float()
    faces = two_faces()[torch.tensor([0, 0])]
    faces = replace(
        faces,
        albedo_map=UVMap(same(3, 4, 4), covered),
        displacement_map=UVMap(same(1, 4, 4), covered),
        light_map=UVMap(same(3, 4, 4), covered),
        depth=same(8, 8) * (same(8, 8) > 0.5),
        landmarks=PredictedLandmarks(same(478, 2), same(478)),
    )
    found = named_tensors(average_faces(faces, WEIGHTS))
    for name, value in named_tensors(faces).items():
        expected = value[0]
        if name.endswith("_map.values"):
            expected = expected * covered[0]
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=0)


def test_a_texel_that_one_of_them_covers_is_covered_with_its_value() -> None:
    coverage = stacked([[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    values = stacked([[1.0, 2.0], [9.0, 9.0]], [[5.0, 9.0], [3.0, 9.0]])[:, None]
    known = UVMap(values, coverage)
    found = average_faces(replace(two_faces(), displacement_map=known), WEIGHTS).displacement_map
    assert found is not None
    torch.testing.assert_close(found.coverage, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(found.values, torch.tensor([[[2.0, 2.0], [3.0, 0.0]]]))


def test_a_face_of_weight_zero_covers_nothing() -> None:
    known = UVMap(stacked([[[1.0]]], [[[7.0]]]), stacked([[0.0]], [[1.0]]))
    faces = replace(two_faces(), albedo_map=UVMap(known.values.expand(2, 3, 1, 1), known.coverage))
    found = average_faces(faces, torch.tensor([1.0, 0.0])).albedo_map
    assert found is not None
    assert float(found.coverage.max()) == 0


def test_depth_is_averaged_where_it_is_known() -> None:
    depth = stacked([[0.8, 0.8, 0.0, 0.0]], [[1.2, 0.0, 1.2, 0.0]])
    found = average_faces(replace(two_faces(), depth=depth), WEIGHTS)
    torch.testing.assert_close(found.depth, torch.tensor([[0.9, 0.8, 1.2, 0.0]]))


def test_landmarks_are_averaged_and_no_more_certain_for_it() -> None:
    points = stacked(torch.zeros(478, 2), torch.full((478, 2), 4.0))
    sigma = stacked(torch.full((478,), 1.0), torch.full((478,), 3.0))
    faces = replace(two_faces(), landmarks=PredictedLandmarks(points, sigma))
    found = average_faces(faces, WEIGHTS).landmarks
    assert found is not None
    torch.testing.assert_close(found.points, torch.ones(478, 2))
    torch.testing.assert_close(found.sigma, torch.full((478,), 3.0**0.5))
