"""Predictions of a system for batches of all sources together, feedback included."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.training.system import FramedFaces, System


def predict(system: System, faces: FramedFaces) -> ExplainedFace:
    """Return the prediction after `system.passes` passes; each gets the prediction before it."""
    prediction = system(faces)
    for _ in range(system.passes - 1):
        prediction = system(replace(faces, previous=prediction))
    return prediction


def framed_faces(system: System, batch: FaceBatch) -> FramedFaces:
    """Return the input of a system for a batch; clips keep their axis of frames."""
    if system.refines:
        return FramedFaces(batch.photo, previous=system.faces_to_refine(batch), skin=batch.skin)
    if not system.uses_landmarks:
        return FramedFaces(batch.photo)
    return FramedFaces(batch.photo, batch.landmarks478, batch.landmarks478_weight)


def predict_batches(system: System, batches: Sequence[FaceBatch]) -> list[ExplainedFace]:
    """Return the predictions of several batches, which are predicted together.

    So normalisation layers get the mixture, and not one kind of image at a time. With `uses_frames`,
    clips of each length are predicted together; stills are clips of one frame.
    """
    inner = 2 if system.uses_frames else 1
    parts = [_with_axes(system, framed_faces(system, batch), inner) for batch in batches]
    lengths = [part.photo.shape[1:-3] for part in parts]
    found: dict[int, ExplainedFace] = {}
    for length in dict.fromkeys(lengths):
        members = [index for index, own in enumerate(lengths) if own == length]
        together = predict(system, joined([parts[index] for index in members]))
        counts = [len(parts[index].photo) for index in members]
        for index, start in zip(members, _starts(counts), strict=True):
            rows = slice(start, start + len(parts[index].photo))
            shape = batches[index].photo.shape[:-3]
            found[index] = map_tensors(
                lambda t, rows=rows, shape=shape: t[rows].flatten(0, inner - 1).unflatten(0, shape),
                together,
            )
    return [found[index] for index in range(len(batches))]


def _with_axes(system: System, faces: FramedFaces, count: int) -> FramedFaces:
    """Return faces with `count` batch axes: 1, or 2 for a system that gets frames together."""
    shape = faces.photo.shape[:-3]
    frames = shape[-1] if len(shape) == 2 else 1
    target = torch.Size([shape.numel() // frames, frames]) if count == 2 else [shape.numel()]
    return map_tensors(lambda t: t.flatten(0, len(shape) - 1).unflatten(0, target), faces)


def _starts(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts))]
