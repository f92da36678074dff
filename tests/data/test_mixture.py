"""Batches are split by shares, and are the same in every process."""

from dataclasses import dataclass
from itertools import islice

import pytest
import torch
from training.toy import ToySource

from lifemask.data.mixture import Mixture, batch_sizes, generator_for, mixed_batches, seed_for
from lifemask.geometry.tensors import joined, map_tensors, named_tensors


@pytest.mark.parametrize(
    ("shares", "total", "sizes"),
    [
        ({"a": 1.0}, 7, {"a": 7}),
        ({"a": 3.0, "b": 1.0}, 32, {"a": 24, "b": 8}),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, 32, {"a": 11, "b": 11, "c": 10}),
        ({"a": 0.5, "b": 0.0}, 4, {"a": 4}),
        ({"a": 0.9, "b": 0.1}, 10, {"a": 9, "b": 1}),
    ],
)
def test_shares_become_whole_images(
    shares: dict[str, float], total: int, sizes: dict[str, int]
) -> None:
    assert batch_sizes(shares, total) == sizes


@pytest.mark.parametrize("shares", [{"a": -1.0}, {"a": 0.0}, {}, {"a": float("nan")}])
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        batch_sizes(shares, 8)


def test_a_batch_too_small_for_all_sources_is_refused() -> None:
    with pytest.raises(ValueError, match=r"leaves nothing for b\. Enlarge batch_size"):
        batch_sizes({"a": 100.0, "b": 1.0}, 8)


@dataclass(frozen=True)
class OnDevice(ToySource):
    device: str = "cuda"


@pytest.mark.parametrize("second", [ToySource("two"), OnDevice("two")])
def test_workers_make_the_same_batches(second: ToySource) -> None:
    mixture = Mixture({"one": ToySource("one"), "two": second}, {"one": 3, "two": 2})
    here, there = (
        list(islice(mixed_batches(mixture, start=4, stride=3, workers=n), 3)) for n in (0, 2)
    )
    for ours, theirs in zip(here, there, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine.photo, other.photo)
    assert torch.equal(here[1][0].photo, ToySource("one").batch(7, 3).photo)


def test_generators_differ_by_every_part_of_their_key() -> None:
    keys = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), ("a", 0), (0, 0), (2**40,), ("ab",)]
    assert len({seed_for(*key) for key in keys}) == len(keys)
    assert torch.rand(1, generator=generator_for(1, "x")) == torch.rand(
        1, generator=generator_for(1, "x")
    )


def test_batches_are_joined_named_and_moved_as_one() -> None:
    one, two = (ToySource(name).batch(0, 2) for name in "ab")
    both = joined([one, two])
    assert both.photo.shape[0] == 4
    assert both.truth is None
    assert torch.equal(both.photo[2:], two.photo)
    assert set(named_tensors(both)) == set(vars(both)) - {"truth", "features"}
    assert torch.equal(map_tensors(lambda t: t * 0, both).photo, both.photo * 0)
