"""The solver finds the face of exact points, trusts uncertain ones less, and learns common errors."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import camera_of, viewpoint_of
from lifemask.losses.face_points import FacePoints
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_solver import FaceSolver
from lifemask.networks.parameters import ParameterDecoder

SIDE = 192


@pytest.fixture(scope="module")
def points() -> FacePoints:
    return FacePoints(MorphableModel.from_pretrained())


@pytest.fixture(scope="module")
def solver(points: FacePoints) -> FaceSolver:
    torch.manual_seed(0)
    rows = points.dense_rows
    counts = torch.ones(len(points.mean[rows]))
    counts[468:478] = 0
    return FaceSolver(points.mean[rows], points.basis[:, rows], counts, identity_modes=100)


def face(seed: int, *, spread: float) -> ExplainedFace:
    """Return two faces; with a spread of 0 the mean face, looked at from straight ahead."""
    decoder = ParameterDecoder.for_model(MorphableModel.from_pretrained(), crop_size=SIDE)
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(2, decoder.outputs, generator=generator) * spread
    found = decoder(raw)
    return replace(found, light=SphericalHarmonicsLight(found.light.coefficients.detach()))


def seen(points: FacePoints, of: ExplainedFace) -> Tensor:
    return of.camera.project(points.dense(of.coefficients))[..., :2]


def sigma(pixels: float) -> Tensor:
    return torch.full((2, 678), pixels)


def test_exact_points_give_their_face(points: FacePoints, solver: FaceSolver) -> None:
    true = face(0, spread=0.5)
    start = face(1, spread=0.1)
    target = seen(points, true)
    precise = replace_least(solver, -12.0)
    found = precise(start, target, sigma(0.02))
    before, after = ((seen(points, each) - target).norm(dim=-1) for each in (start, found))
    assert float(after.mean()) < 0.1 * float(before.mean())
    surfaces = [points(each.coefficients)[-1] for each in (start, true, found)]
    first, last = ((surfaces[k] - surfaces[1]).norm(dim=-1).mean() for k in (0, 2))
    assert float(last) < 0.7 * float(first)


def replace_least(solver: FaceSolver, log_sigma: float) -> FaceSolver:
    """Return a solver with another least standard deviation, without common errors, with more steps."""
    other = FaceSolver(
        solver.mean, solver.basis, solver.counts, identity_modes=solver.identity_modes, steps=6
    )
    state = {name: value.clone() for name, value in solver.state_dict().items()}
    state["log_least_sigma"] = torch.tensor(log_sigma)
    for name in ("head_errors", "image_errors"):
        state[name] = torch.zeros_like(state[name])
    other.load_state_dict(state)
    return other.requires_grad_(False)


def test_points_that_know_nothing_change_nothing(points: FacePoints, solver: FaceSolver) -> None:
    start = face(1, spread=0.3)
    with torch.no_grad():
        found = solver(start, seen(points, face(0, spread=0.5)), sigma(1e7))
    expected = start.coefficients.identity * solver.trust
    torch.testing.assert_close(found.coefficients.identity, expected, atol=1e-3, rtol=0)
    view, before = viewpoint_of(found.camera), viewpoint_of(start.camera)
    torch.testing.assert_close(view.translation, before.translation, atol=0.05, rtol=0)


def test_irises_say_nothing_about_the_shape(points: FacePoints, solver: FaceSolver) -> None:
    start = face(1, spread=0.3)
    target = seen(points, face(0, spread=0.5))
    moved = target.clone()
    moved[:, 468:478] += 20
    with torch.no_grad():
        first, second = (solver(start, each, sigma(1.0)) for each in (target, moved))
    assert torch.equal(first.coefficients.identity, second.coefficients.identity)


def test_weights_of_expressions_stay_between_0_and_1(
    points: FacePoints, solver: FaceSolver
) -> None:
    with torch.no_grad():
        found = solver(face(1, spread=0.3), seen(points, face(3, spread=1.0)), sigma(0.5))
    expression = found.coefficients.expression
    assert float(expression.min()) >= 0
    assert float(expression.max()) <= 1


def test_it_learns_errors_that_points_have_in_common(points: FacePoints) -> None:
    torch.manual_seed(0)
    rows = points.dense_rows
    solver = FaceSolver(
        points.mean[rows], points.basis[:, rows], torch.ones(678), identity_modes=100, steps=2
    )
    true = face(0, spread=0.5)
    # The same pattern with another sign and size in each face.
    pattern = torch.randn(678, 1).expand(678, 2).cumsum(0)
    pattern = pattern / pattern.abs().max() * 6
    start = replace(true, camera=moved(true))
    optimiser = torch.optim.Adam(solver.parameters(), 0.01)
    values: list[float] = []
    for step in range(12):
        size = torch.tensor([1.0, -0.7]) * (1 if step % 2 else -1)
        target = seen(points, true) + size[:, None, None] * pattern
        found = solver(start, target, sigma(1.0))
        error = (points(found.coefficients)[-1] - points(true.coefficients)[-1]).norm(dim=-1).mean()
        optimiser.zero_grad()
        error.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in solver.parameters())
        optimiser.step()
        values.append(float(error.detach()))
    assert sum(values[-2:]) < 0.8 * sum(values[:2])


def moved(of: ExplainedFace):
    view = viewpoint_of(of.camera)
    shifted = replace(view, translation=view.translation + 2)
    return camera_of(shifted, of.camera.principal_point, of.camera.image_size)
