"""Skin that open eyes fold away is not taken from the photo."""

from dataclasses import replace

from lifemask.morphable import MorphableModel
from lifemask.texture.atlas import head_atlas
from lifemask.texture.lids import lids_shown


def test_open_eyes_hide_part_of_the_lids_and_closed_eyes_show_them() -> None:
    model = MorphableModel.from_pretrained()
    atlas = head_atlas(model, 256)
    neutral = model.neutral()
    shown = lids_shown(model, neutral, atlas)
    assert (shown < 0.5).sum() > 20
    assert (shown > 0.99).float().mean() > 0.95
    # Below the eyes there are no lids.
    assert float(shown[atlas.position[1] < -0.03].min()) > 0.99
    expression = neutral.expression.clone()
    for side in ("Left", "Right"):
        expression[model.expression_names.index(f"eyeBlink{side}")] = 1
    closed = lids_shown(model, replace(neutral, expression=expression), atlas)
    assert float(closed.min()) > 0.99
