"""Batches of all sources as one batch of images, and losses back in the form of the batches."""

from collections.abc import Sequence

from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import map_tensors
from lifemask.training.system import Losses


def flat_batches(batches: Sequence[FaceBatch]) -> list[FaceBatch]:
    """Return batches in which the frames of clips are images of their own."""
    return [
        map_tensors(lambda t, n=batch.photo.ndim - 3: t.flatten(0, n - 1), batch)
        for batch in batches
    ]


def batch_rows(batches: Sequence[FaceBatch]) -> list[slice]:
    """Return where the images of each flat batch are among those of all."""
    counts = [len(batch.photo) for batch in batches]
    return [slice(sum(counts[:k]), sum(counts[: k + 1])) for k in range(len(counts))]


def with_axes_of(batches: Sequence[FaceBatch], losses: Sequence[Losses]) -> list[Losses]:
    """Return losses of flat batches with the batch axes that the batches had."""
    return [
        {name: value.unflatten(0, batch.photo.shape[:-3]) for name, value in own.items()}
        for batch, own in zip(batches, losses, strict=True)
    ]
