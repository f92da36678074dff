"""Textures are sampled bilinearly, with clamped borders and correct gradients."""

import torch

from lifemask.rendering import sample_texture


def test_texel_centres_show_their_texel_and_borders_are_clamped():
    texture = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    v, u = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    torch.testing.assert_close(sample_texture(texture, torch.stack([u, v])), texture)
    corners = torch.tensor([[[-1.0, 2.0]], [[-1.0, 2.0]]])
    sampled = sample_texture(texture, corners)
    torch.testing.assert_close(sampled[:, 0, 0], texture[:, 0, 0])
    torch.testing.assert_close(sampled[:, 0, 1], texture[:, -1, -1])


def test_between_texels_the_colour_is_linear():
    ramp = torch.arange(8.0).view(1, 1, 8).expand(1, 8, 8) * 10
    u = torch.linspace(0.1, 0.9, 33).view(1, 1, 33)
    expected = (u * 8 - 0.5) * 10
    sampled = sample_texture(ramp, torch.cat([u, torch.full_like(u, 0.3)]))
    torch.testing.assert_close(sampled, expected, rtol=1e-5, atol=1e-4)


def test_one_texture_serves_a_batch_and_gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(1)
    texture = torch.rand(3, 5, 7, generator=generator, dtype=torch.float64)
    uv = torch.rand(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    weight = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    leaves = [texture.clone().requires_grad_(), uv.clone().requires_grad_()]
    (sample_texture(*leaves) * weight).sum().backward()
    for k in range(2):
        step = torch.randn(leaves[k].shape, generator=generator, dtype=torch.float64) * 1e-7
        ends = []
        for sign in (1, -1):
            inputs = [texture, uv]
            inputs[k] = inputs[k] + sign * step
            ends.append((sample_texture(*inputs) * weight).sum())
        expected = (ends[0] - ends[1]) / 2
        torch.testing.assert_close((leaves[k].grad * step).sum(), expected, rtol=1e-6, atol=1e-14)
