"""Colours of irises and hair are measured in the photo."""

import pytest
import torch

from lifemask.texture.eyes import IrisEstimate, estimate_irises
from lifemask.texture.hair import HairEstimate, estimate_hair, hair_hue


def eye_photo(
    colour: tuple[float, float, float], radius: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two discs of a colour with black pupils, and their landmarks."""
    photo = torch.full((3, 60, 120), 0.5)
    landmarks = torch.zeros(478, 2)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(120) + 0.5, indexing="ij")
    for first, upper, lower, centre in (
        (468, 159, 145, (30.0, 30.0)),
        (473, 386, 374, (90.0, 30.0)),
    ):
        distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2).sqrt()
        photo[:, distance < radius] = torch.tensor(colour)[:, None]
        photo[:, distance < 0.35 * radius] = 0.0
        ring = torch.tensor([[0.0, 0.0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * radius
        landmarks[first : first + 5] = torch.tensor(centre) + ring
        landmarks[upper] = torch.tensor(centre) - torch.tensor([0.0, radius])
        landmarks[lower] = torch.tensor(centre) + torch.tensor([0.0, radius])
    return photo, landmarks


def test_the_iris_keeps_its_hue():
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    colour = estimate_irises(photo, landmarks, torch.ones(3)).colour
    assert colour is not None
    torch.testing.assert_close(colour / colour.sum(), torch.tensor([0.05, 0.10, 0.20]) / 0.35)


def test_coloured_light_is_removed_from_the_iris():
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    light = torch.tensor([1.2, 1.0, 0.7])
    tinted = estimate_irises(photo * light[:, None, None], landmarks, light).colour
    plain = estimate_irises(photo, landmarks, torch.ones(3)).colour
    assert tinted is not None
    assert plain is not None
    torch.testing.assert_close(tinted, plain)


def test_small_and_closed_eyes_give_no_colour():
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 1.5)
    assert estimate_irises(photo, landmarks, torch.ones(3)).colour is None
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    landmarks[[159, 145, 386, 374]] = landmarks[[468, 468, 473, 473]]
    assert estimate_irises(photo, landmarks, torch.ones(3)).colour is None


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_colour_is_the_same_however_the_face_is_turned(quarters: int):
    """Lids of another colour lie over the upper third of the irises."""
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    photo[:, :26] = torch.tensor([0.5, 0.2, 0.1])[:, None, None]
    landmarks[[159, 386], 1] = 26.0
    upright = estimate_irises(photo, landmarks, torch.ones(3))
    turned, points = photo, landmarks
    for _ in range(quarters):
        # A quarter turn takes (x, y) to (y, width - x).
        points = torch.stack([points[:, 1], turned.shape[-1] - points[:, 0]], -1)
        turned = turned.rot90(1, (1, 2))
    again = estimate_irises(turned.contiguous(), points, torch.ones(3))
    assert upright.colour is not None
    assert again.colour is not None
    torch.testing.assert_close(again.colour, upright.colour)
    torch.testing.assert_close(again.colour / again.colour.sum(), torch.tensor([1.0, 2, 4]) / 7)


def test_half_closed_eyes_do_not_give_the_colour_of_their_lids():
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    landmarks[[159, 386], 1] = 32.0
    landmarks[[145, 374], 1] = 40.0
    assert estimate_irises(photo, landmarks, torch.ones(3)) == IrisEstimate(None, "closed")


def test_irises_are_neither_red_nor_violet_nor_white():
    for colour in ((0.3, 0.05, 0.05), (0.2, 0.05, 0.2)):
        photo, landmarks = eye_photo(colour, 10.0)
        assert estimate_irises(photo, landmarks, torch.ones(3)) == IrisEstimate(None, "unlike")
    photo, landmarks = eye_photo((0.9, 0.9, 0.9), 10.0)
    bright = estimate_irises(photo, landmarks, torch.ones(3)).colour
    assert bright is not None
    assert 0.1 < bright.mean() < 0.25
    photo, landmarks = eye_photo((0.5, 0.22, 0.1), 10.0)
    orange = estimate_irises(photo, landmarks, torch.ones(3)).colour
    assert orange is not None
    assert orange.mean() < 0.09


def scalp_segments(hair: float) -> torch.Tensor:
    segments = torch.zeros(6, 32, 32)
    rows = round(32 * hair)
    segments[1, :rows] = 1
    segments[3, rows:] = 1
    return segments


def test_hair_is_distinguished_from_a_bald_head():
    texture, shown = torch.full((3, 32, 32), 0.1), torch.ones(32, 32)
    dark = torch.zeros(3, 32, 32)
    bald = estimate_hair(texture, shown, scalp_segments(0.0), shown, dark)
    hairy = estimate_hair(texture, shown, scalp_segments(0.9), shown, dark)
    assert bald.colour is None
    assert hairy.colour is not None
    torch.testing.assert_close(hairy.colour, torch.full((3,), 0.1))


def test_paint_covers_the_scalp_and_not_the_face():
    scalp = torch.zeros(128, 128)
    scalp[:64] = 1
    albedo = torch.full((3, 256, 256), 0.5)
    painted, _ = HairEstimate(1.0, torch.tensor([0.02, 0.015, 0.01])).paint(albedo, scalp)
    # The hairline is soft around row 128: about seven texels of the scalp, twice that here.
    assert painted[:, :88].max() < 0.1
    torch.testing.assert_close(painted[:, 168:], albedo[:, 168:])
    assert HairEstimate(0.0, None).paint(albedo, scalp)[0] is albedo


def test_a_hidden_eye_gives_no_colour():
    photo, landmarks = eye_photo((0.05, 0.10, 0.20), 10.0)
    photo[:, :, :60] = torch.tensor([0.3, 0.0, 0.0])[:, None, None]
    colour = estimate_irises(photo, landmarks, torch.ones(3), hidden=(True, False)).colour
    assert colour is not None
    torch.testing.assert_close(colour / colour.sum(), torch.tensor([0.05, 0.10, 0.20]) / 0.35)
    assert estimate_irises(photo, landmarks, torch.ones(3), hidden=(True, True)).colour is None


def test_hair_beside_the_face_gives_the_colour_if_the_scalp_is_hidden():
    nothing = torch.zeros(32, 32)
    texture, segments = torch.full((3, 32, 32), 0.1), scalp_segments(0.5)
    scalp, light = torch.ones(32, 32), torch.zeros(3, 32, 32)
    beside = torch.tensor([0.2, 0.15, 0.1])[:, None].expand(3, 100)
    found = estimate_hair(texture, nothing, segments, scalp, light, beside=beside, beside_share=0.5)
    assert found.colour is not None
    torch.testing.assert_close(found.colour, torch.tensor([0.2, 0.15, 0.1]))
    few = estimate_hair(texture, nothing, segments, scalp, light, beside=beside, beside_share=0.01)
    assert few.colour is None


def test_the_hairline_recedes_where_the_photo_shows_skin():
    scalp = torch.zeros(64, 64)
    scalp[:40] = 1
    segments = torch.zeros(6, 64, 64)
    segments[1, :20] = 1
    segments[3, 20:] = 1
    shown, light = torch.ones(64, 64), torch.zeros(3, 64, 64)
    hair = estimate_hair(torch.full((3, 64, 64), 0.1), shown, segments, scalp, light)
    assert hair.growth is not None
    assert hair.growth[:16].min() > 0.9
    assert hair.growth[25:].max() < 0.1


def test_dark_hair_is_neither_purple_nor_green_and_no_hair_is_orange():
    brown = torch.tensor([0.085, 0.048, 0.027])
    torch.testing.assert_close(hair_hue(brown), brown, rtol=0.02, atol=0)
    for colour in ((0.012, 0.004, 0.012), (0.004, 0.012, 0.004), (0.6, 0.2, 0.02)):
        red, green, blue = hair_hue(torch.tensor(colour)).log().tolist()
        assert abs(green - (red + blue) / 2) < 0.5
        assert red - blue < 1.51
        assert sum(colour) / 3 == pytest.approx(float(hair_hue(torch.tensor(colour)).mean()))
    assert hair_hue(torch.tensor([0.01, 0.004, 0.01])).std() < 0.001


def test_hair_of_the_colour_of_the_face_is_a_bare_scalp():
    shown, dark = torch.ones(32, 32), torch.zeros(3, 32, 32)
    face = torch.tensor([0.46, 0.18, 0.07])
    scalp = 0.8 * face[:, None, None].expand(3, 32, 32)
    found = estimate_hair(scalp, shown, scalp_segments(0.9), shown, dark, face_colour=face)
    assert found.colour is None
    grey = torch.full((3, 32, 32), 0.18)
    found = estimate_hair(grey, shown, scalp_segments(0.9), shown, dark, face_colour=face)
    assert found.colour is not None


def test_blond_hair_as_bright_as_the_skin_is_hair_and_shaded_skin_is_not():
    shown, dark = torch.ones(32, 32), torch.zeros(3, 32, 32)
    for hair, face, found in (
        ((0.459, 0.320, 0.216), (0.652, 0.384, 0.251), True),  # a blond child
        ((0.415, 0.162, 0.056), (0.450, 0.197, 0.093), False),  # the forehead of a bald man
    ):
        texture = torch.tensor(hair)[:, None, None].expand(3, 32, 32)
        estimate = estimate_hair(
            texture, shown, scalp_segments(0.9), shown, dark, face_colour=torch.tensor(face)
        )
        assert (estimate.colour is not None) == found
