"""The direct regressor has zero losses at the truth; it learns, is drawn, saved and loaded."""

from pathlib import Path

import pytest
import torch

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.geometry.tensors import named_tensors
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.io.images import read_photo
from lifemask.morphable.assets import AssetError
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.networks.released import ReleasedWeights, read_weights, write_weights
from lifemask.perception.framing import FaceFrame, crop_pixels
from lifemask.systems.direct_regression import DirectRegression
from lifemask.systems.registry import build_system, load_system, system_names
from lifemask.training.panels import PANELS, draw_panels
from lifemask.training.system import FramedFaces

SIZE = 64
PIXELS_OF_HALF_PRECISION = 0.1
OPTIONS = {"crop_size": SIZE, "input_size": 128, "frozen_stages": 0, "hidden": 32}


@pytest.fixture(scope="module")
def system() -> DirectRegression:
    torch.manual_seed(0)
    built = build_system("direct_regression", {**OPTIONS, "pretrained": False})
    assert isinstance(built, DirectRegression)
    return built


def some_faces(system: DirectRegression, count: int) -> ExplainedFace:
    generator = torch.Generator().manual_seed(1)
    neutral = system.model.neutral()

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator)

    coefficients = FaceCoefficients(
        normal(len(neutral.identity)) * 0.5,
        (normal(len(neutral.expression)) * 0.3).clamp(0, 1),
        normal(2, 2) * 0.2,
        normal(len(neutral.albedo)) * 0.5,
    )
    turn = matrix_from_yaw_pitch_roll(normal() * 0.5, normal() * 0.2, normal() * 0.1)
    standard = viewpoint_of(system(FramedFaces(torch.zeros(count, 3, SIZE, SIZE))).camera)
    view = Viewpoint(
        (standard.rotation @ turn).detach(),
        standard.translation.detach() + normal(2),
        standard.pixels_per_metre.detach() * (normal() * 0.1).exp(),
        standard.distance.detach() * (normal() * 0.3).exp(),
    )
    # The truth's principal point need not be the middle.
    camera = camera_of(view, normal(2) * 5 + SIZE / 2, (SIZE, SIZE))
    light = SphericalHarmonicsLight(
        SphericalHarmonicsLight.ambient().coefficients + normal(9, 3) * 0.2
    )
    return ExplainedFace(coefficients, camera, light)


def batch_of(system: DirectRegression, faces: ExplainedFace, *, with_truth: bool) -> FaceBatch:
    count = len(faces.camera.focal_pixels)
    image = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    points = [
        faces.camera.project(p)[..., :2] for p in system.face_losses.points(faces.coefficients)[:3]
    ]
    weights = [torch.ones_like(p[..., 0]) for p in points]
    plane, ones = torch.zeros(count, SIZE, SIZE), torch.ones(count, 478, dtype=torch.bool)
    truth = FaceTruth(
        faces, normals=image * 0, albedo=image, visible68=ones[:, :68], visible478=ones,
        surface200=points[1][:, :200], visible200=ones[:, :200],
    )  # fmt: skip
    return FaceBatch(
        image, points[0], weights[0], points[1], weights[1], points[2], weights[2],
        skin=plane, person=torch.arange(count), truth=truth if with_truth else None,
    )  # fmt: skip


def test_all_losses_vanish_at_the_truth_and_none_beside_it(system: DirectRegression):
    faces = some_faces(system, 3)
    batch = batch_of(system, faces, with_truth=True)
    at_truth = system.face_losses(batch, faces)
    assert set(at_truth) <= set(system.phases["main"].weights)
    beside = system.face_losses(batch, system(FramedFaces(batch.photo)))
    for name, value in at_truth.items():
        assert value.shape == (3,)
        assert float(value.detach().max()) < 1e-3, name
        assert float(beside[name].detach().min()) > 1e-4, name


def test_a_face_seen_from_a_camera_with_another_principal_point_is_nearly_as_good(
    system: DirectRegression,
):
    faces = some_faces(system, 3)
    batch = batch_of(system, faces, with_truth=True)
    middle = torch.full((3, 2), SIZE / 2)
    camera = camera_of(viewpoint_of(faces.camera), middle, (SIZE, SIZE))
    losses = system.face_losses(batch, ExplainedFace(faces.coefficients, camera, faces.light))
    for name in ("rotation", "translation", "scale", "distance", "posed_shape"):
        assert float(losses[name].max()) < 1e-3, name
    assert float(losses["landmarks478"].max()) < 5e-3


def test_photos_without_truth_have_landmarks_and_a_prior(system: DirectRegression):
    faces = some_faces(system, 2)
    batch = batch_of(system, faces, with_truth=False)
    losses = system.face_losses(batch, faces)
    assert set(losses) == {"landmarks478", "landmarks68", "aflw21", "prior"}
    expected = faces.coefficients.identity.square().mean(-1)
    torch.testing.assert_close(
        losses["prior"], expected + faces.coefficients.albedo.square().mean(-1)
    )


def test_every_named_loss_comes_up(system: DirectRegression):
    faces = some_faces(system, 1)
    named = [
        name
        for with_truth in (True, False)
        for name in system.face_losses(batch_of(system, faces, with_truth=with_truth), faces)
    ]
    assert set(named) == set(system.phases["main"].weights)


def test_linear_points_are_the_models_but_for_the_eyes(system: DirectRegression):
    model, coefficients = system.model, some_faces(system, 2).coefficients
    points68, points478, points21, _ = system.face_losses.points(coefficients)
    vertices = model.vertices(coefficients)
    for points, embedding in (
        (points68, model.landmarks68_outline), (points478, model.dense478), (points21, model.aflw21)
    ):  # fmt: skip
        assert embedding is not None
        exact = embedding.points(vertices, model.triangles)
        error = (points - exact).norm(dim=-1)
        assert float(error.median()) < 1e-6
        if len(points[0]) == 478:
            assert float(error[:, :468].max()) < 0.006


def test_it_learns_one_batch(system: DirectRegression):
    torch.manual_seed(0)
    fresh = DirectRegression.build(**{**OPTIONS, "frozen_stages": 7})
    batch = batch_of(fresh, some_faces(fresh, 4), with_truth=True)
    optimiser = torch.optim.Adam(fresh.head.hidden.parameters(), 5e-3)
    optimiser.add_param_group({"params": fresh.head.outputs.parameters()})
    history: list[float] = []
    for _ in range(60):
        losses = fresh.face_losses(batch, fresh(FramedFaces(batch.photo)))
        total = sum(losses[name].mean() for name in ("landmarks478", "rotation", "scale", "shape"))
        assert isinstance(total, torch.Tensor)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        history.append(float(total.detach()))
    assert history[-1] < 0.75 * history[0]


def test_a_clip_is_a_batch_with_one_more_axis(system: DirectRegression):
    photo = torch.rand(2, 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert system(FramedFaces(photo)).coefficients.identity.shape[:2] == (2, 3)


def test_panels_show_the_photo_and_four_views_of_the_face(system: DirectRegression):
    faces = some_faces(system, 2)
    batch = batch_of(system, faces, with_truth=True)
    panels = draw_panels(system.model, batch.photo, faces)
    assert panels.shape == (2, len(PANELS), 3, SIZE, SIZE)
    torch.testing.assert_close(panels[:, 0], batch.photo)
    assert float(panels.min()) >= 0.0
    assert float(panels.max()) <= 1.0
    # The overlay changes the face and leaves the corners alone.
    changed = (panels[:, 1] - batch.photo).abs().sum(1) > 1e-3
    assert 0.15 < float(changed.float().mean()) < 0.8
    assert not changed[:, 0, 0].any()
    for first in range(1, 5):
        for second in range(first):
            assert float((panels[:, first] - panels[:, second]).abs().mean()) > 0.01


def test_saved_and_loaded_it_answers_the_same_but_for_rounding(
    system: DirectRegression, tmp_path: Path
):
    torch.manual_seed(3)
    trained = DirectRegression.build(**OPTIONS, pretrained=False)
    torch.nn.init.normal_(trained.head.outputs.weight, std=0.05)
    path = tmp_path / "weights.safetensors"
    write_weights(path, ReleasedWeights("direct_regression", OPTIONS, trained.state_dict()))
    first = path.read_bytes()
    loaded = load_system("direct_regression", weights=path)
    assert loaded.crop_size == SIZE
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    photo = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    given, wanted = loaded(FramedFaces(photo)), trained(FramedFaces(photo)).detach()
    torch.testing.assert_close(
        given.coefficients.identity, wanted.coefficients.identity, atol=5e-3, rtol=0
    )
    write_weights(path, ReleasedWeights("direct_regression", OPTIONS, trained.state_dict()))
    assert path.read_bytes() == first


def test_weights_that_do_not_fit_are_refused(system: DirectRegression, tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    state = dict(system.state_dict())
    write_weights(path, ReleasedWeights("another", OPTIONS, state))
    with pytest.raises(ValueError, match="another"):
        load_system("direct_regression", weights=path)
    name = next(iter(state))
    write_weights(path, ReleasedWeights("direct_regression", OPTIONS, {name: state[name]}))
    with pytest.raises(RuntimeError, match="Missing key"):
        load_system("direct_regression", weights=path)
    with pytest.raises(ValueError, match="not finite"):
        write_weights(path, ReleasedWeights("x", {}, {"w": torch.tensor([1e9])}))
    path.write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="no file of weights"):
        read_weights(path)


def test_unknown_names_and_options_say_what_is_known():
    assert "direct_regression" in system_names()
    with pytest.raises(ValueError, match="Known: coarse_fine, conditional, dense"):
        build_system("direct")
    with pytest.raises(ValueError, match="has no option width"):
        build_system("direct_regression", {"width": 3})
    with pytest.raises(ValueError, match="Known"):
        load_system("direct")


def test_without_weights_loading_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("lifemask.morphable.assets.ASSETS", tmp_path)
    with pytest.raises(AssetError, match="systems/direct_regression"):
        load_system("direct_regression")


def test_shipped_weights_of_the_first_format_load_under_todays_names():
    system = load_system("direct_regression")
    assert isinstance(system, DirectRegression)
    # Trained weights, not the zeros with which the outputs start.
    assert float(system.head.outputs.weight.abs().max()) > 0
    assert float(system.decoder.scale_per_metre) > 0


def test_only_networks_run_in_half_precision(samples: Path):
    """With networks in bfloat16, points of a face have errors below a tenth of a pixel."""
    system = load_system("direct_regression")
    assert isinstance(system, DirectRegression)
    pixels = read_photo(samples / "portrait_1.jpg").pixels
    middle = torch.tensor([pixels.shape[1] / 2, pixels.shape[0] * 0.45])
    side = torch.tensor(0.8 * min(pixels.shape[:2]))
    crop = crop_pixels(pixels, FaceFrame(middle, side, torch.tensor(0.0)), system.crop_size)
    faces = FramedFaces(torch.stack([crop, crop.flip(-1)]))
    exact = system(faces)
    system.precision = torch.bfloat16
    rounded = system(faces)
    for face in (exact, rounded):
        tensors = named_tensors(face).values()
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    points = [
        face.camera.project(system.face_losses.points(face.coefficients)[1])[..., :2]
        for face in (exact, rounded)
    ]
    error = (points[0] - points[1]).norm(dim=-1)
    assert float(error.max()) > 0
    assert float(error.mean()) < PIXELS_OF_HALF_PRECISION
