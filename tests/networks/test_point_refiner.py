"""Refined points start where they are given, and read the map at their own place."""

import math

import torch

from lifemask.networks.face_trunk import FaceTrunk, ResidualBlock
from lifemask.networks.point_refiner import FIRST_LOG_SIGMA, PointRefiner

FIRST = torch.tensor([[0.2, 0.2], [0.5, 0.5], [0.8, 0.7]])


def maps(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(count, 6, 16, 16, generator=generator),
        torch.rand(count, 5, generator=generator),
    )


def refiner() -> PointRefiner:
    torch.manual_seed(0)
    return PointRefiner(3, near=6, whole=5, hidden=16)


def test_an_untrained_refiner_keeps_the_points():
    found = refiner()(FIRST.expand(2, -1, -1), *maps())
    torch.testing.assert_close(found.points, FIRST.expand(2, -1, -1))
    sigma = torch.full((2, 3), math.exp(FIRST_LOG_SIGMA))
    torch.testing.assert_close(found.log_sigma.exp(), sigma)
    torch.testing.assert_close(found.visible_logit, torch.zeros(2, 3))


def test_a_point_reads_the_map_at_its_own_place():
    built = refiner()
    torch.nn.init.normal_(built.readout, std=0.3)
    near, whole = maps(1)
    changed = near.clone()
    changed[..., :5, :5] = 0.0
    first, second = (built(FIRST[None], m, whole).points for m in (near, changed))
    moved = (first - second).abs().sum(-1)[0]
    assert moved[0].item() > 1e-4
    assert moved[1:].max().item() == 0.0


def test_points_follow_the_gradient_of_their_own_error():
    built = refiner()
    goal = FIRST + torch.tensor([[0.02, -0.01], [-0.01, 0.03], [0.0, 0.02]])
    optimiser = torch.optim.Adam(built.parameters(), 1e-2)
    for _ in range(60):
        found = built(FIRST.expand(2, -1, -1), *maps())
        loss = (found.points - goal).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (found.points - goal).norm(dim=-1).max().item() < 0.005


def test_a_new_residual_block_is_its_shortcut():
    torch.manual_seed(0)
    block = ResidualBlock(4, 4).eval()
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(block(x), x.relu())
    assert ResidualBlock(4, 6, 2)(x).shape == (1, 6, 4, 4)


def test_a_trunk_sees_places_and_the_whole_face():
    torch.manual_seed(0)
    trunk = FaceTrunk(coarse_size=16, whole=8).eval()
    fine, coarse = torch.rand(1, 32, 32, 32), torch.rand(1, 64, 16, 16)
    first = trunk(fine, coarse)
    assert first.near.shape == (1, 64, 16, 16)
    assert first.whole.shape == (1, 8)
    changed = coarse.clone()
    changed[..., :2, :2] += 1.0
    second = trunk(fine, changed)
    moved = (first.near - second.near).abs().amax(1)[0]
    assert moved[0, 0].item() > moved[-1, -1].item()
    assert not torch.equal(first.whole, second.whole)
