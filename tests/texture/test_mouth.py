"""The colour of teeth comes from an open mouth."""

import torch

from lifemask.texture.mouth import teeth_change, teeth_colour

INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)


def mouth(colour: tuple[float, float, float], height: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a dark mouth with teeth in its upper half, and the landmarks of its inner lips."""
    photo = torch.full((3, 80, 120), 0.02)
    photo[:, :40] = torch.tensor(colour)[:, None, None]
    angle = torch.linspace(torch.pi, 3 * torch.pi, len(INNER) + 1)[:-1]
    landmarks = torch.zeros(478, 2)
    ring = torch.stack([60 + 40 * angle.cos(), 40 + height / 2 * angle.sin()], -1)
    landmarks[list(INNER)] = ring
    return photo, landmarks


def test_teeth_keep_their_brightness_without_the_light():
    photo, landmarks = mouth((0.8, 0.76, 0.7), 40)
    light = torch.full((3,), 2.0)
    colour = teeth_colour(photo, landmarks, light)
    assert colour is not None
    torch.testing.assert_close(colour.mean(), torch.tensor(2.26 / 6), rtol=1e-3, atol=1e-3)


def test_no_teeth_in_a_closed_mouth_or_behind_a_tongue():
    photo, landmarks = mouth((0.8, 0.76, 0.7), 2)
    assert teeth_colour(photo, landmarks, torch.ones(3)) is None
    photo, landmarks = mouth((0.6, 0.2, 0.2), 40)
    assert teeth_colour(photo, landmarks, torch.ones(3)) is None


def test_only_teeth_change_and_corners_are_darker():
    log_albedo = torch.full((3, 8, 8), -1.0)
    teeth = torch.zeros(8, 8)
    teeth[:4] = 1
    side = torch.linspace(0, 0.03, 8).expand(8, 8)
    change = teeth_change(torch.tensor([0.4, 0.4, 0.4]), log_albedo, teeth, side)
    assert change[:, 4:].abs().max() == 0
    torch.testing.assert_close((log_albedo + change)[:, 0, 0].exp(), torch.full((3,), 0.4))
    assert (change[0, 0].diff() <= 0).all()
    assert change[0, 0, -1] < change[0, 0, 0] - 0.5
