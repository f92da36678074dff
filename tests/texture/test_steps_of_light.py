"""Borders of cast shadows are light; marks on the skin are not."""

import torch

from lifemask.texture.light_separation import _steps_of_light

SIZE, SCALE = 128, 1.8


def test_the_border_of_a_shadow_is_light_and_a_mark_is_skin() -> None:
    everywhere = torch.ones(SIZE, SIZE)
    shadow = torch.zeros(3, SIZE, SIZE)
    shadow[:, : SIZE // 2] = -0.8
    torch.testing.assert_close(
        _steps_of_light(shadow, everywhere, SCALE)[:, 4:-4, 4:-4].mean((1, 2)),
        shadow[:, 4:-4, 4:-4].mean((1, 2)),
        atol=0.03,
        rtol=0,
    )
    border = _steps_of_light(shadow, everywhere, SCALE)[0, :, SIZE // 2]
    # Within two millimetres, where a blur of 12 mm has hardly changed.
    assert border[SIZE // 2 - 4] < -0.7
    assert border[SIZE // 2 + 4] > -0.1

    mark = torch.zeros(3, SIZE, SIZE)
    mark[:, 60:69, 60:69] = -0.8
    assert _steps_of_light(mark, everywhere, SCALE).abs().max() < 0.01


def test_shallow_changes_stay() -> None:
    step = torch.zeros(3, SIZE, SIZE)
    step[:, : SIZE // 2] = -0.2
    assert _steps_of_light(step, torch.ones(SIZE, SIZE), SCALE).abs().max() < 0.01
