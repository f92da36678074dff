"""The figures of `yaleb` for the maps of all people: normals, stability, relighting and albedo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from lifemask.evaluation.datasets import YalePerson, read_yaleb
from lifemask.evaluation.metrics.albedo_error import albedo_error, albedo_variation
from lifemask.evaluation.metrics.bootstrap import bootstrap_half_width, mean_and_half_width
from lifemask.evaluation.metrics.individuality import individuality
from lifemask.evaluation.metrics.normal_error import mean_of_others, median_normal_angle, unit
from lifemask.evaluation.metrics.normal_stability import (
    changes_with_light,
    difference_between_people,
    stability,
)
from lifemask.evaluation.metrics.relighting import (
    albedo_by_division,
    lambertian,
    relative_error,
)
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell
from lifemask.io.colour import srgb_from_linear

FRONTAL, SIDE = "A+000E+00", "A+035E+15"
SOURCES = {"frontal": FRONTAL, "side": SIDE}
"""Lights of the input photos, by their name in the columns."""


@dataclass(frozen=True)
class YaleTruth:
    """The people, the measurements of photometric stereo, and where they are reliable."""

    people: list[YalePerson]
    """All people, in the order of the first axis below."""
    normals: Float[np.ndarray, "N H W 3"]
    """True unit normals."""
    skin: Bool[np.ndarray, "N H W"]
    """True on skin with reliable normals."""
    others: Float[np.ndarray, "N H W 3"]
    """Unit mean normals of the other people."""
    trusted: Bool[np.ndarray, "N H W"]
    """True on skin where that mean is reliable."""


def read_truth(development: Path) -> YaleTruth:
    """Return the truth in the folder `yaleb` of the development data."""
    people = read_yaleb(development)
    normals = np.stack([p.normals for p in people])
    skin = np.stack([p.skin for p in people])
    mean, enough = mean_of_others(normals, skin)
    return YaleTruth(people, normals, skin, unit(mean), skin & enough)


def predicted_normals(
    people: list[YalePerson], predictions: dict[str, Prediction | None], light: str
) -> Float[np.ndarray, "N H W 3"] | None:
    """Return unit normals for all people, zero where empty; None if no prediction has normals."""
    maps: list[np.ndarray] = []
    found = False
    for person in people:
        prediction = predictions.get(f"{person.name}__{light}")
        size = person.skin.shape
        normals = None if prediction is None else prediction.map("normals", (size[0], size[1]))
        mask = None if prediction is None else prediction.map("mask", (size[0], size[1]))
        found |= normals is not None
        normals = np.zeros((*size, 3)) if normals is None else normals
        answered = np.linalg.norm(normals, axis=-1) > 0.5
        answered = answered if mask is None else answered & mask
        maps.append(unit(normals) * answered[..., None])
    return np.stack(maps) if found else None


def predicted_albedos(
    people: list[YalePerson], predictions: dict[str, Prediction | None], light: str
) -> list[Float[np.ndarray, "H W"]] | None:
    """Return grey albedos in the photos' own values, 0 to 255; None if a prediction has none.

    A program reads the photos' values as sRGB, so its linear albedo is encoded in sRGB again. The
    result is the photo's value under shading 1.
    """
    maps: list[np.ndarray] = []
    for person in people:
        prediction = predictions.get(f"{person.name}__{light}")
        size = person.skin.shape
        albedo = None if prediction is None else prediction.map("albedo", (size[0], size[1]))
        if albedo is None:
            return None
        grey = torch.from_numpy(albedo.astype(np.float64).mean(-1).clip(min=0))
        maps.append(255 * srgb_from_linear(grey).numpy())
    return maps


def normal_cells(
    truth: YaleTruth, frontal: Float[np.ndarray, "N H W 3"], seed: int
) -> dict[str, Cell]:
    """Return the errors of all people's normals and of the others' mean, and individuality."""
    angles, floor = _angles(truth, frontal), _angles(truth, truth.others)
    count = len(truth.people)
    cells = {
        "normals °": Cell(
            *mean_and_half_width(angles, seed=seed), f"{(angles < floor).sum()} of {count} better"
        ),
        "others' mean °": Cell(*mean_and_half_width(floor, seed=seed)),
    }
    for part, correlations in individuality(frontal, truth.normals, truth.skin).items():
        right = int((correlations.argmax(1) == np.arange(count)).sum())
        own = np.diag(correlations).copy()
        cells[f"individuality {part}"] = Cell(
            *mean_and_half_width(own, seed=seed), f"{right} of {count}"
        )
    return cells


def normal_error_cell(truth: YaleTruth, normals: Float[np.ndarray, "N H W 3"], seed: int) -> Cell:
    """Return the mean over people of the median angle to the true normals, degrees."""
    return Cell(*mean_and_half_width(_angles(truth, normals), seed=seed))


def _angles(truth: YaleTruth, normals: Float[np.ndarray, "N H W 3"]) -> Float[np.ndarray, "N"]:
    triples = zip(normals, truth.normals, truth.trusted, strict=True)
    return np.array([median_normal_angle(n, t, m) for n, t, m in triples])


def stability_cells(
    truth: YaleTruth, by_light: dict[str, Float[np.ndarray, "N H W 3"] | None], seed: int
) -> dict[str, Cell]:
    """Return the stability; no cell if a light has no normals.

    Args:
        truth: the truth of all people.
        by_light: predicted unit normals by light, the frontal light first.
        seed: seed of the bootstrap.
    """
    maps = [m for m in by_light.values() if m is not None]
    frontal = by_light[FRONTAL]
    if frontal is None or len(maps) < len(by_light):
        return {}
    changes = np.array(
        [
            changes_with_light(frontal[i], [m[i] for m in maps[1:]], skin)
            for i, skin in enumerate(truth.skin)
        ]
    )
    between = difference_between_people(frontal, truth.skin)
    width = bootstrap_half_width(
        lambda drawn: stability(changes[drawn], between[np.ix_(drawn, drawn)]),
        len(truth.people),
        seed=seed,
    )
    return {"stability": Cell(stability(changes, between), width)}


def relit_by_division_cell(
    truth: YaleTruth, source: str, normals: Float[np.ndarray, "N H W 3"], seed: int
) -> Cell:
    """Return the relighting error, with the photo over the shading of the normals as albedo."""
    albedos = [
        albedo_by_division(p.photo(source), n, p.light_directions[source])
        for p, n in zip(truth.people, normals, strict=True)
    ]
    return relit_cell(truth, source, albedos, normals, seed)


def relit_cell(
    truth: YaleTruth,
    source: str,
    albedos: list[Float[np.ndarray, "H W"]],
    normals: Float[np.ndarray, "N H W 3"] | None,
    seed: int,
) -> Cell:
    """Return the relighting error of all people; without normals the albedo is the prediction."""
    values: list[float] = []
    for i, person in enumerate(truth.people):
        lights = [light for light in person.lights_within(50) if light != source]
        errors: list[float] = []
        for light in lights:
            predicted = (
                albedos[i]
                if normals is None
                else lambertian(albedos[i], normals[i], person.light_directions[light])
            )
            errors.append(relative_error(predicted, person.photo(light), truth.trusted[i]))
        values.append(float(np.mean(errors)))
    return Cell(*mean_and_half_width(np.array(values), seed=seed))


def albedo_cell(truth: YaleTruth, albedos: list[Float[np.ndarray, "H W"]], seed: int) -> Cell:
    """Return the difference of grey albedos from photometric stereo after one scale each, percent."""
    values = [
        albedo_error(albedo, person.albedo, person.skin)
        for albedo, person in zip(albedos, truth.people, strict=True)
    ]
    return Cell(*mean_and_half_width(np.array(values), seed=seed))


def albedo_variation_cell(
    truth: YaleTruth, by_light: Sequence[Sequence[Float[np.ndarray, "H W"]]], seed: int
) -> Cell:
    """Return how much grey albedos vary with the light, percent.

    Args:
        truth: the truth of all people.
        by_light: for each light the albedos of all people.
        seed: seed of the bootstrap.
    """
    values = [
        albedo_variation(np.stack([maps[i] for maps in by_light]), person.skin)
        for i, person in enumerate(truth.people)
    ]
    return Cell(*mean_and_half_width(np.array(values), seed=seed))
