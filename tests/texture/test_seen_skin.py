"""Occluders are distinguished from skin, and the person's own marks are kept."""

import pytest
import torch

from lifemask.texture.seen_skin import (
    FaceZones,
    free_of_occluders,
    has_beard,
    has_glasses,
    skin_tone,
)

SIZE, SCALE = 160, 1.75


def zones(beard_rows: int = 0) -> FaceZones:
    """Return zones without features, with a beard in the lowest rows."""
    beard = torch.zeros(SIZE, SIZE)
    if beard_rows:
        beard[-beard_rows:] = 1
    bridge, frame = torch.zeros(2, SIZE, SIZE)
    bridge[60:80, 70:90] = 1
    frame[50:110] = 1
    folds = torch.zeros(SIZE, SIZE)
    folds[110:, 30:60] = 1
    return FaceZones(beard, beard.clone(), torch.zeros(SIZE, SIZE), bridge, frame, folds)


def face(noise: float = 0.03) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the residual of plain skin, its weight, and hair over the upper 20 rows."""
    generator = torch.Generator().manual_seed(0)
    residual = 0.2 + noise * torch.randn(1, SIZE, SIZE, generator=generator).expand(3, -1, -1)
    hair = torch.zeros(SIZE, SIZE)
    hair[:20] = 1
    weight = torch.ones(SIZE, SIZE)
    weight[:24] = 0
    return residual.clone(), weight, hair


def trust(residual: torch.Tensor, weight: torch.Tensor, hair: torch.Tensor) -> torch.Tensor:
    return free_of_occluders(residual, weight, hair, zones(), SCALE, bearded=False)


def test_plain_skin_is_seen():
    residual, weight, hair = face()
    assert trust(residual, weight, hair)[40:].min() > 0.99


def test_a_strand_that_hangs_from_the_hair_is_not_skin():
    residual, weight, hair = face()
    residual[:, 20:60, 80:83] -= 0.9
    bare = trust(residual, weight, hair)
    assert bare[26:56, 81].max() < 0.05
    assert bare[40:, :60].min() > 0.99


def test_a_fold_that_ends_at_hair_is_skin():
    residual, weight, hair = face()
    hair[-12:] = 1
    weight[-14:] = 0
    residual[:, 115:148, 44:47] -= 0.9
    residual[:, 115:148, 100:103] -= 0.9
    bare = trust(residual, weight, hair)
    assert bare[116:134, 45].min() > 0.99
    assert bare[116:134, 101].max() < 0.05


def test_a_crease_that_touches_a_rim_is_skin():
    residual, weight, hair = face()
    hair[65:80, 60:100] = 1
    hair[100:104, 20:60] = 1
    weight[100:104, 20:60] = 0
    residual[:, 104:135, 20:23] -= 0.9
    assert trust(residual, weight, hair)[118:132, 21].min() > 0.99


def test_a_mark_in_the_middle_of_a_cheek_is_skin():
    residual, weight, hair = face()
    residual[:, 90:95, 90:95] -= 0.9
    assert trust(residual, weight, hair)[92, 92] > 0.99


@pytest.mark.parametrize("change", [-0.9, 0.5])
def test_a_rim_that_touches_nothing_is_not_skin_if_the_person_wears_glasses(change: float):
    residual, weight, hair = face()
    residual[:, 100:102, 30:60] += change
    assert not has_glasses(hair, zones())
    assert trust(residual, weight, hair)[100, 32:58].min() > 0.99
    hair[65:80, 60:100] = 1  # the bridge of the glasses
    assert has_glasses(hair, zones())
    bare = trust(residual, weight, hair)
    assert bare[100, 32:58].max() < 0.05
    assert bare[120:].min() > 0.99


def test_a_shadow_on_one_side_is_not_skin_but_marks_and_dark_areas_on_both_sides_are():
    residual, weight, hair = face()
    residual[:, 90:130, 20:50] -= 0.8
    residual[:, 60:66, 100:106] -= 0.8
    residual[:, 135:155] -= 0.8
    bare = trust(residual, weight, hair)
    assert bare[95:125, 25:45].max() < 0.05
    assert bare[95:125, 115:135].min() > 0.99
    assert bare[63, 103] > 0.99
    assert bare[136:].min() > 0.99


def test_a_one_sided_beard_is_still_a_beard():
    residual, weight, hair = face()
    residual[:, 125:155, 20:75] -= 0.8
    bare = free_of_occluders(residual, weight, hair, zones(40), SCALE, bearded=True)
    assert bare[128:152, 25:70].min() > 0.99


def test_another_hue_under_a_hat_is_not_skin():
    residual, weight, hair = face()
    residual[:, 20:32] += torch.tensor([0.5, -0.25, -0.25])[:, None, None]
    bare = trust(residual, weight, hair)
    assert bare[25:30].max() < 0.05
    assert bare[50:].min() > 0.99


def test_without_anything_in_front_all_is_skin():
    residual, weight, _ = face()
    residual[:, 40:80, 80:83] -= 0.9
    assert trust(residual, weight, torch.zeros(SIZE, SIZE)).min() == 1


def test_a_beard_is_dark_where_beards_grow():
    residual, weight, _ = face()
    assert not has_beard(residual, weight, zones(40))
    residual[:, -40:] -= 0.5
    assert has_beard(residual, weight, zones(40))


def test_tone_is_that_of_most_of_the_skin():
    residual, weight, _ = face(noise=0.0)
    residual[:, 100:120] = -1
    torch.testing.assert_close(skin_tone(residual, weight), torch.full((3, 1, 1), 0.2))
    assert skin_tone(residual, torch.zeros_like(weight)).abs().max() == 0
