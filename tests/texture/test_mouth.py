"""The colour of teeth comes from an open mouth."""

import torch

from lifemask.texture.mouth import mouth_shade, teeth_change, teeth_colour

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


def test_gums_among_the_teeth_do_not_turn_them_cyan():
    """Half of the texels are gums; enamel still gets the wanted colour."""
    enamel, gums = torch.tensor([0.6, 0.55, 0.5]), torch.tensor([0.3, 0.08, 0.08])
    log_albedo = torch.stack([enamel, gums], -1).log()[:, None].repeat(1, 8, 4)
    wanted = torch.tensor([0.45, 0.42, 0.36])
    change = teeth_change(wanted, log_albedo, torch.ones(8, 8), torch.zeros(8, 8))
    torch.testing.assert_close((log_albedo + change)[:, 0, 0].exp(), wanted)


def test_the_throat_is_dark_and_the_tongue_has_a_groove():
    side = torch.linspace(-0.02, 0.02, 41).expand(41, 41)
    depth = torch.linspace(0, -0.06, 41)[:, None].expand(41, 41)
    position = torch.stack([side, torch.zeros(41, 41), depth])
    inside = torch.ones(41, 41)
    inside[:, :2] = 0
    shade = mouth_shade(position, inside, inside)
    assert shade[0, 20] < shade[0, 25]
    assert shade[0, 38] < shade[0, 25]
    assert shade[40].amax() == 1
    assert shade[40, 2:].amax() < 0.1
    assert (shade[:, :2] == 1).all()
