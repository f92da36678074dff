"""The neutral head keeps the relief of the skin, but not the folds of the photo's expression."""

import torch

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.model import MorphableModel
from lifemask.texture.atlas import head_atlas
from lifemask.texture.expression_folds import without_expression_folds


def test_a_neutral_face_keeps_all() -> None:
    height = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found = without_expression_folds(height, torch.zeros(52), MorphableModel.from_pretrained())
    torch.testing.assert_close(found, height)


def test_a_smile_on_one_side_loses_its_fold_there_alone() -> None:
    model = MorphableModel.from_pretrained()
    expression = torch.zeros(52)
    expression[ARKIT_EXPRESSIONS.index("mouthSmileLeft")] = 1
    kept = without_expression_folds(torch.ones(256, 256), expression, model)
    position = head_atlas(model, 256).position
    # The subject's left is +x. The fold runs from the nose beside the mouth.
    beside = (position[0].abs() - 0.032).abs() < 0.004
    beside &= ((position[1] + 0.052).abs() < 0.004) & (position[2] > 0)
    left, right = (kept[beside & (side * position[0] > 0)] for side in (1, -1))
    assert len(left) > 3
    assert left.mean() < 0.75
    assert right.min() > 0.97
    forehead = (position[1] > 0.03) & (position[2] > 0)
    assert kept[forehead].min() > 0.97
