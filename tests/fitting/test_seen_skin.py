"""What lies in front of the skin is told from the skin, and the person's own marks stay."""

import torch

from lifemask.fitting.seen_skin import FaceZones, free_of_occluders, has_beard, skin_tone

SIZE, SCALE = 160, 1.75


def zones(beard_rows: int = 0) -> FaceZones:
    """No features; a beard grows in the lowest rows."""
    beard = torch.zeros(SIZE, SIZE)
    if beard_rows:
        beard[-beard_rows:] = 1
    return FaceZones(beard, beard.clone(), torch.zeros(SIZE, SIZE))


def face(noise: float = 0.03) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Residual of plain skin, its weight, and hair over the upper 20 rows."""
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


def test_a_strand_that_hangs_from_the_hair_is_no_skin():
    residual, weight, hair = face()
    residual[:, 20:60, 80:83] -= 0.9
    bare = trust(residual, weight, hair)
    assert bare[26:56, 81].max() < 0.05
    assert bare[40:, :60].min() > 0.99


def test_a_mark_in_the_middle_of_a_cheek_is_skin():
    residual, weight, hair = face()
    residual[:, 90:95, 90:95] -= 0.9
    assert trust(residual, weight, hair)[92, 92] > 0.99


def test_another_hue_under_a_hat_is_no_skin():
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
