"""The skeleton moves the head as its expressions do, and visemes are sums of expressions."""

import torch
from tiny_head import tiny_head

from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable import ARKIT_EXPRESSIONS, MorphableModel
from lifemask.morphable.rig import JOINTS, head_rig
from lifemask.morphable.visemes import VISEMES, viseme_weights


def test_the_jaw_joint_opens_the_mouth_as_the_expression_does() -> None:
    """`jawOpen` turns the lower teeth by 20.7 degrees; the joint must move skin and lips with them."""
    model = MorphableModel.from_pretrained(identity_modes=1)
    rig = head_rig(model, torch.zeros(1))
    assert rig is not None
    jaw = rig.positions[JOINTS.index("jaw")]
    turn = matrix_from_rotation_vector(torch.tensor([0.3613, 0.0, 0.0]))
    swing = (model.mean - jaw) @ turn.T - (model.mean - jaw)
    by_joint = rig.weights[:, JOINTS.index("jaw"), None] * swing
    by_shape = model.expression_basis[ARKIT_EXPRESSIONS.index("jawOpen")]
    away = (by_joint - by_shape).norm(dim=-1)
    teeth = slice(*model.vertex_parts["teeth_lower"])
    assert float(away[teeth].max()) < 1e-4
    moved = by_shape.norm(dim=-1) > 0.002
    assert float(away[moved].median()) < 0.004
    assert float(away.max()) < 0.010


def test_weights_are_shares_and_parts_follow_their_joints() -> None:
    model = MorphableModel.from_pretrained(identity_modes=2)
    rig = head_rig(model, torch.tensor([2.0, -1.0]))
    assert rig is not None
    torch.testing.assert_close(rig.weights.sum(-1), torch.ones(len(model.mean)))
    assert float(rig.weights.min()) >= 0
    eyeballs = model.eyeballs
    assert eyeballs is not None
    for side, name in enumerate(("eye_left", "eye_right")):
        assert bool((rig.weights[eyeballs.vertices[side], JOINTS.index(name)] == 1).all())
    upper = slice(*model.vertex_parts["teeth_upper"])
    assert bool((rig.weights[upper, JOINTS.index("head")] == 1).all())
    lowest = int(model.mean[:, 1].argmin())
    assert float(rig.weights[lowest, JOINTS.index("neck")]) > 0.99
    centres = model.eyeball_centres(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(rig.positions[3:], centres)


def test_a_model_without_eyes_and_teeth_has_no_skeleton() -> None:
    assert head_rig(tiny_head(), torch.zeros(4)) is None


def test_visemes_are_fifteen_sums_of_known_expressions() -> None:
    names = ["sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U"]
    assert list(VISEMES) == [f"viseme_{name}" for name in names]
    for mixture in VISEMES.values():
        assert set(mixture) <= set(ARKIT_EXPRESSIONS)
        assert all(0 < weight <= 1 for weight in mixture.values())
        for name, weight in mixture.items():
            other = (
                name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
            )
            assert mixture[other] == weight, "both sides of the face do the same"
    weights = viseme_weights(("jawOpen", "tongueOut"))
    assert weights.shape == (15, 2)
    assert float(weights[0].abs().max()) == 0
    assert float(weights[10, 0]) == torch.tensor(VISEMES["viseme_aa"]["jawOpen"])
