"""Masks, hands and objects hide the face behind them, and are as frequent as requested."""

from functools import cache
from typing import Literal

import numpy as np
import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.data.wearables.occluders import (
    HeldThing,
    Mesh,
    held_mesh,
    mask_mesh,
    random_hand,
    random_mask,
    random_object,
)
from lifemask.morphable.model import MorphableModel

_BROWS = [105, 334, 10]


@cache
def head() -> MorphableModel:
    return MorphableModel.from_pretrained()


@cache
def dense478() -> torch.Tensor:
    assert head().dense478 is not None
    return head().dense478.points(head().mean, head().triangles)


def held(thing: HeldThing) -> Mesh:
    return held_mesh(thing, dense478(), torch.tensor([0.5, 0.3, 0.2]))


def photos(**probabilities: float) -> FaceBatch:
    config = SyntheticConfig(
        size=96, texture_size=64, uniform_yaw=0.0, dressed=0.0, neutral=1.0, pitch_limit_degrees=10,
        **({"mask": 0.0, "hand": 0.0, "held": 0.0} | probabilities),
    )  # fmt: skip
    return SyntheticFaces(config).batch(2, 0, 8)


def test_what_a_mask_covers_is_hidden_and_no_skin_and_the_brows_are_seen() -> None:
    bare, masked = photos(), photos(mask=1.0)
    assert bare.truth is not None
    assert masked.truth is not None
    frontal = (bare.truth.visible478[:, [33, 263]]).all(1)
    assert frontal.sum() >= 4
    assert bare.truth.visible478[frontal][:, [0, 17, 4]].all()
    mouth = masked.truth.visible478[frontal][:, [0, 13, 14, 17, 61, 291]]
    assert mouth.float().mean() < 0.05
    assert masked.truth.visible478[frontal][:, _BROWS].all()
    place = masked.landmarks478[:, 17].round().long().clamp(0, 95)
    rows = torch.arange(8)
    assert bare.skin[rows, place[:, 1], place[:, 0]][frontal].min() > 0.5
    assert masked.skin[rows, place[:, 1], place[:, 0]][frontal].max() < 0.1


def test_truth_other_than_visibility_is_that_of_the_face_underneath() -> None:
    bare, covered = photos(), photos(hand=1.0)
    assert bare.truth is not None
    assert covered.truth is not None
    assert not torch.equal(bare.truth.visible478, covered.truth.visible478)
    assert (covered.skin.mean((1, 2)) < bare.skin.mean((1, 2)) + 0.05).all()
    alone = covered.truth.face.depth
    assert ((alone > 0).float().mean((1, 2)) > 0.1).all()


def test_probability_0_draws_none() -> None:
    faces = SyntheticFaces(SyntheticConfig(size=64, texture_size=32, mask=0.0, hand=0.0, held=0.0))
    people = [faces._person(5, k) for k in range(20)]
    assert all(person.mask is None for person in people)
    assert not any(m.held for k, p in enumerate(people) for m in faces._moments(5, k, p, 2))


def test_a_mask_stands_off_the_face_everywhere() -> None:
    first, last = head().vertex_parts["skin"]
    skin = head().mean[first:last]
    for seed in range(5):
        look = random_mask(np.random.default_rng(seed))
        mesh = mask_mesh(look, skin, dense478())
        shell = mesh.vertices[: 25 * 15]
        lips = head().mean[head().regions["lips"] > 0.5]
        outside = lips[:, 2].amax()
        middle = shell.view(15, 25, 3)[7, 12]
        assert middle[2] > outside
        assert (mesh.vertices.abs() < 0.2).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", ["hand", "phone", "microphone"])
def test_held_things_are_seen_from_outside_and_near_what_they_are_held_to(
    kind: Literal["hand", "phone", "microphone"], mirrored: bool
) -> None:
    thing = HeldThing(
        kind, 50, contact=0.6, turn=0.3, tilt=0.3, gap=0.0, scale=1.0,
        curl=(0.3, 0.6, 0.6, 0.6, 0.6), mirrored=mirrored, colour=(1.0, 1.0, 1.0),
    )  # fmt: skip
    mesh = held(thing)
    a, b, c = mesh.vertices[mesh.triangles].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(-1).sum() / 6
    assert 1e-6 < volume < 1e-3
    distance = (mesh.vertices - dense478()[50]).norm(dim=-1).min()
    assert distance < 0.04


def test_chance_is_the_generators_alone() -> None:
    for draw in (random_mask, random_hand, random_object):
        assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
        assert draw(np.random.default_rng(3)) != draw(np.random.default_rng(4))
