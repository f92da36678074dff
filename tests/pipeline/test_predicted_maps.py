"""What a system predicts in UV and in the image is in the texture, the files and the pictures."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lifemask.evaluation.systems.explained_face import face_prediction
from lifemask.fitting.fit import FaceFit, FaceFitter
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks, UVMap
from lifemask.pipeline.export import head_scene
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.texture.face_texture import TexelOrigin, face_texture
from lifemask.texture.skin_detail import normal_map

SIZE = 512
BLUE = (0.1, 0.2, 0.9)


def left_half() -> Float[Tensor, "R R"]:
    covered = torch.zeros(SIZE, SIZE)
    covered[:, : SIZE // 2] = 1
    return covered


@pytest.fixture(scope="module")
def prediction(face: FaceReconstruction) -> ExplainedFace:
    """Return the fitted face with every map that a system may predict."""
    blue = torch.tensor(BLUE)[:, None, None].expand(3, SIZE, SIZE)
    height, width = face.camera.image_size
    return replace(
        face.fit.face,
        albedo_map=UVMap(blue, left_half()),
        displacement_map=UVMap(torch.full((1, 64, 64), 0.002), torch.ones(64, 64)),
        light_map=UVMap(torch.full((3, 16, 16), 0.5), torch.ones(16, 16)),
        depth=torch.full((height, width), 0.6),
        landmarks=PredictedLandmarks(torch.zeros(478, 2), torch.ones(478)),
    )


@pytest.fixture(scope="module")
def mapped(
    face: FaceReconstruction, reconstructor: FaceReconstructor, prediction: ExplainedFace
) -> FaceReconstruction:
    parts = FaceReconstructor(
        reconstructor.perception,
        lambda _pixels, _observation: prediction,
        reconstructor.fitter,
        refine=False,
        texture_size=SIZE,
    )
    return parts.reconstruct(face.photo, face.observation)


def test_the_albedo_map_counts_where_it_covers_and_the_photo_elsewhere(
    face: FaceReconstruction,
) -> None:
    albedo = UVMap(torch.tensor(BLUE)[:, None, None].expand(3, SIZE, SIZE), left_half())
    found = face_texture(
        face.photo.pixels,
        replace(face.fit.face, albedo_map=albedo),
        face.model,
        face.observation,
        resolution=SIZE,
    )
    left, right = found.albedo.split(SIZE // 2, -1)
    torch.testing.assert_close(left, torch.tensor(BLUE)[:, None, None].expand_as(left))
    assert torch.equal(right, face.texture.albedo[..., SIZE // 2 :])
    assert bool((found.origin[:, : SIZE // 2] == TexelOrigin.PREDICTED).all())
    assert torch.equal(found.origin[:, SIZE // 2 :], face.texture.origin[:, SIZE // 2 :])


def test_a_prediction_that_is_not_refined_keeps_all_its_parts(
    mapped: FaceReconstruction, prediction: ExplainedFace
) -> None:
    assert mapped.fit.face is prediction


def test_files_hold_the_predicted_albedo_and_displacement(
    mapped: FaceReconstruction, face: FaceReconstruction
) -> None:
    smooth = replace(face.fit, face=replace(face.fit.face, displacement_map=None))
    ours, plain = (
        {s.material.name: s for s in head_scene(f).nodes[0].surfaces if s.material is not None}
        for f in (mapped, replace(face, fit=smooth))
    )
    skin, before = ours["Skin"], plain["Skin"]
    assert skin.normals is not None
    moved = skin.positions - before.positions
    # Where the photo's expression folds the skin, the neutral head has less.
    lengths = np.linalg.norm(moved, axis=-1)
    assert (np.abs(lengths - 0.002) < 2e-4).mean() > 0.9
    assert lengths.max() < 0.0022
    assert np.median((moved * skin.normals).sum(-1)) > 0.0018
    assert skin.morph_normals is not None
    assert before.morph_normals is not None
    assert not np.array_equal(skin.morph_normals, before.morph_normals)
    assert skin.material is not None
    assert skin.material.base_colour_image is not None
    pixels = np.array(Image.open(io.BytesIO(skin.material.base_colour_image))).astype(int)
    assert (pixels[:, : SIZE // 2 - 8, 2] > 200).all()


def test_the_normal_map_shows_what_the_vertices_do_not_show(face: FaceReconstruction) -> None:
    def of(displacement: torch.Tensor) -> torch.Tensor:
        model = face.model
        return normal_map(face.texture, model, vertices=model.mean, displacement=displacement)

    flat = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    everywhere = of(torch.full((SIZE, SIZE), 0.002))
    assert float((everywhere - flat).abs().mean()) < 1e-3
    # Stripes of four texels are much finer than the mesh.
    stripes = 1e-4 * ((torch.arange(SIZE) // 2) % 2).float().expand(SIZE, SIZE)
    assert float(of(stripes)[0].abs().mean()) > 0.02


def test_arrays_hold_what_is_predicted_and_what_is_evaluated(
    mapped: FaceReconstruction, face: FaceReconstruction, prediction: ExplainedFace
) -> None:
    ours, plain = mapped.arrays(), face.arrays()
    for name in ("vertices_head", "vertices_neutral"):
        distance = np.linalg.norm(ours[name] - plain[name], axis=-1)
        assert np.median(np.abs(distance - 0.002)) < 1e-5, name
    inside = ours["mask"]
    np.testing.assert_allclose(ours["depth"][inside], 0.6, atol=1e-6)
    np.testing.assert_allclose(ours["shading"][inside], 0.5, atol=1e-5)
    assert float(ours["depth"][~inside].max()) == 0
    evaluated = face_prediction(mapped.model, prediction)
    for name in ("vertices_neutral", "vertices_head", "landmarks68", "aflw21", "depth", "normals"):
        value = getattr(evaluated, name)
        np.testing.assert_allclose(ours[name], value, atol=1e-4, err_msg=name)


def test_strips_of_arrays_have_the_normals_of_the_whole_depth(
    mapped: FaceReconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = mapped.camera.image_size
    ramp = 0.6 + 0.05 * torch.linspace(0, 1, height)[:, None].expand(height, width)
    tilted = replace(mapped, fit=replace(mapped.fit, face=replace(mapped.fit.face, depth=ramp)))
    whole = tilted.arrays()
    monkeypatch.setattr("lifemask.pipeline.arrays._PIXELS_AT_ONCE", width * 100)
    strips = tilted.arrays()
    for name in ("normals", "depth", "mask"):
        np.testing.assert_allclose(strips[name], whole[name], atol=1e-4, err_msg=name)


def test_another_light_does_not_show_the_light_map(mapped: FaceReconstruction) -> None:
    own = mapped.render()
    seen = own.mask > 0
    torch.testing.assert_close(own.shading[:, seen], torch.full_like(own.shading[:, seen], 0.5))
    lamp = SphericalHarmonicsLight.from_direction(1.1, 0.25)
    lit = mapped.render(light=lamp)
    assert float(lit.shading[:, seen].std()) > 0 or float((lit.shading - 0.5).abs().max()) > 0.1
    bright, dark = (
        np.asarray(mapped.relight(SphericalHarmonicsLight.ambient(level))).mean()
        for level in (1.0, 0.2)
    )
    assert bright > 1.2 * dark


def test_the_preview_shows_the_albedo_and_both_lamps(mapped: FaceReconstruction) -> None:
    sheet = mapped.preview().astype(int)
    size = sheet.shape[0]
    parts = [sheet[:, k * (size + 6) : k * (size + 6) + size] for k in range(6)]
    assert np.abs(parts[4] - parts[5]).mean() > 3
    blue = parts[3][..., 2] - parts[3][..., 0] > 60
    assert 0.03 < blue.mean() < 0.6


def test_a_fit_keeps_the_maps_of_its_surface_and_not_those_of_another_light(
    face: FaceReconstruction, reconstructor: FaceReconstructor, prediction: ExplainedFace
) -> None:
    class Fitter(FaceFitter):
        def __call__(self, *_arguments: object, **_options: object) -> FaceFit:
            return face.fit

    fitter = Fitter(face.model, reconstructor.fitter.config)
    parts = FaceReconstructor(
        reconstructor.perception, lambda _pixels, _observation: prediction, fitter
    )
    found = parts.explain(face.photo.pixels, face.observation).face
    assert found.albedo_map is prediction.albedo_map
    assert found.displacement_map is prediction.displacement_map
    assert found.landmarks is prediction.landmarks
    assert found.light_map is face.fit.face.light_map
    assert found.depth is None
