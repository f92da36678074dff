"""Refined points start where they are given, and read the maps around their own place."""

import torch

from lifemask.networks.point_refiner import FIRST_SIGMA, PointRefiner

FIRST = torch.tensor([[0.2, 0.2], [0.5, 0.5], [0.8, 0.7]])


def maps(count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(count, 6, 32, 32, generator=generator),
        torch.rand(count, 8, 16, 16, generator=generator),
        torch.rand(count, 5, generator=generator),
    )


def refiner() -> PointRefiner:
    torch.manual_seed(0)
    return PointRefiner(3, fine_channels=6, coarse_channels=8, features=5, channels=4, hidden=16)


def test_an_untrained_refiner_keeps_the_points():
    found = refiner()(FIRST.expand(2, -1, -1), *maps())
    torch.testing.assert_close(found.points, FIRST.expand(2, -1, -1))
    torch.testing.assert_close(found.log_sigma.exp(), torch.full((2, 3), FIRST_SIGMA))
    torch.testing.assert_close(found.visible_logit, torch.zeros(2, 3))


def test_a_point_reads_the_maps_around_its_own_place():
    built = refiner()
    torch.nn.init.normal_(built.readout, std=0.3)
    fine, coarse, features = maps(1)
    changed = fine.clone()
    changed[..., :10, :10] = 0.0
    first, second = (built(FIRST[None], m, coarse, features).points for m in (fine, changed))
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
