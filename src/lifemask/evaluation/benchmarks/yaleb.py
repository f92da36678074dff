"""`yaleb`: normals, individuality, stability, relighting and albedo under known lights."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from lifemask.evaluation.collect import Progress, Request, collect, silent
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.datasets import YalePerson, development_folder, read_yaleb
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
from lifemask.evaluation.tables import Cell, Column, Row, Table
from lifemask.io.colour import srgb_from_linear

FRONTAL, SIDE = "A+000E+00", "A+035E+15"
STABILITY_LIGHTS = (
    FRONTAL,
    *("A+000E+45", "A+020E+10", "A-020E+10", SIDE, "A-035E+15", "A+050E+00", "A-050E+00"),
)

_COLUMNS = (
    Column("normals °", 1, "≤ 12.5"),
    Column("others' mean °", 1),
    Column("individuality low", 2, "≥ 0.40 (6 of 8)"),
    Column("individuality high", 2),
    Column("stability", 2, "≤ 0.5"),
    Column("relit frontal %", 1),
    Column("relit side %", 1, "< 20.4"),
    Column("own relit frontal %", 1),
    Column("own relit side %", 1, "< 20.4"),
    Column("albedo frontal %", 1),
    Column("albedo side %", 1),
    Column("albedo variation %", 1),
)


@dataclass(frozen=True)
class _Truth:
    people: list[YalePerson]
    normals: Float[np.ndarray, "N H W 3"]
    skin: Bool[np.ndarray, "N H W"]
    others: Float[np.ndarray, "N H W 3"]
    """Unit mean normals of the other people."""
    trusted: Bool[np.ndarray, "N H W"]
    """Skin where that mean may be used."""


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return everything that known lights and photometric stereo can tell, in one table."""
    people = read_yaleb(development_folder(config.data))
    normals = np.stack([p.normals for p in people])
    skin = np.stack([p.skin for p in people])
    mean, enough = mean_of_others(normals, skin)
    truth = _Truth(people, normals, skin, unit(mean), skin & enough)
    rows = [_system_row(s, truth, config, progress) for s in config.systems]
    return Table(
        "yaleb",
        "normals, individuality, stability, relighting and albedo of 8 people, photos given alone",
        _COLUMNS,
        (*rows, *_reference_rows(truth, config.seed)),
        (
            "normals: median angle over skin, an empty pixel counts 90°; others' mean: the mean "
            "true normals of the other seven people, without a look at the photo.",
            "individuality: correlation of the deviation from the other people with the true "
            "deviation, below and above a Gaussian of 5 pixels; in brackets for how many people "
            "the right one fits best.",
            "stability: change of the normals with the light over the difference between people; "
            "eight lights, quality fast, 0 is perfect.",
            "relit: every other light within 50° predicted as albedo x max(0, n.l), median error; "
            "albedo is the photo divided by the shading of the same normals, or the program's own "
            "(sRGB-encoded, as the photo is).",
            "albedo: median error to photometric stereo after one scale; variation over eight "
            "lights counts only beside it. ± over people.",
            "dashes: 3DDFA_V2 and the mean face give no albedo, landmarks no normals; a reference "
            "has only the figures that it is a reference for.",
        ),
    )


def _system_row(system: str, truth: _Truth, config: EvaluationConfig, progress: Progress) -> Row:
    people = truth.people
    quality: Quality = "fast" if config.fast else "full"
    full = _collect(system, people, (FRONTAL, SIDE), quality, config, progress)
    fast = _collect(system, people, STABILITY_LIGHTS, "fast", config, progress)
    cells: dict[str, Cell] = {}
    frontal = _normals(people, full, FRONTAL)
    if frontal is not None:
        cells |= _normal_cells(truth, frontal, config.seed)
    by_light = {light: _normals(people, fast, light) for light in STABILITY_LIGHTS}
    cells |= _stability_cells(truth, by_light, config.seed)
    for source, name in ((FRONTAL, "frontal"), (SIDE, "side")):
        normals = _normals(people, full, source)
        if normals is None:
            continue
        divided = [
            albedo_by_division(p.photo(source), n, p.light_directions[source])
            for p, n in zip(people, normals, strict=True)
        ]
        cells[f"relit {name} %"] = _relit(truth, source, divided, normals, config.seed)
        own = _albedos(people, full, source)
        if own is not None:
            cells[f"own relit {name} %"] = _relit(truth, source, own, normals, config.seed)
            cells[f"albedo {name} %"] = _albedo(truth, own, config.seed)
    maps = [_albedos(people, fast, light) for light in STABILITY_LIGHTS]
    present = [m for m in maps if m is not None]
    if len(present) == len(maps):
        stack = np.stack(present)
        values = [albedo_variation(stack[:, i], p.skin) for i, p in enumerate(people)]
        cells["albedo variation %"] = Cell(*mean_and_half_width(np.array(values), seed=config.seed))
    return Row(config.label(system), cells)


def _reference_rows(truth: _Truth, seed: int) -> list[Row]:
    people = truth.people
    flat = np.zeros_like(truth.normals)
    flat[..., 2] = 1
    named: list[tuple[str, np.ndarray]] = [
        ("flat", flat),
        ("average of the others", truth.others),
        ("photometric stereo (limit)", truth.normals),
    ]
    rows: list[Row] = []
    for name, normals in named:
        cells: dict[str, Cell] = {}
        if name != "photometric stereo (limit)":
            angles = [
                median_normal_angle(n, t, m)
                for n, t, m in zip(normals, truth.normals, truth.trusted, strict=True)
            ]
            cells["normals °"] = Cell(*mean_and_half_width(np.array(angles), seed=seed))
        for source, light in ((FRONTAL, "frontal"), (SIDE, "side")):
            albedos = [
                albedo_by_division(p.photo(source), n, p.light_directions[source])
                for p, n in zip(people, normals, strict=True)
            ]
            if name != "flat":
                cells[f"relit {light} %"] = _relit(truth, source, albedos, normals, seed)
        rows.append(Row(name, cells, reference=True))
    photo: dict[str, Cell] = {}
    constant: dict[str, Cell] = {"albedo variation %": Cell(0.0)}
    for source, light in ((FRONTAL, "frontal"), (SIDE, "side")):
        photos = [p.photo(source) for p in people]
        photo[f"relit {light} %"] = _relit(truth, source, photos, None, seed)
        photo[f"albedo {light} %"] = _albedo(truth, photos, seed)
        ones = [np.ones_like(p) for p in photos]
        constant[f"albedo {light} %"] = _albedo(truth, ones, seed)
    lit = np.stack([[p.photo(light) for p in people] for light in STABILITY_LIGHTS])
    varied = [albedo_variation(lit[:, i], p.skin) for i, p in enumerate(people)]
    photo["albedo variation %"] = Cell(*mean_and_half_width(np.array(varied), seed=seed))
    rows.append(Row("photo unchanged", photo, reference=True))
    rows.append(Row("constant albedo", constant, reference=True))
    true_albedo = [p.albedo for p in people]
    limit = {
        f"own relit {name} %": _relit(truth, source, true_albedo, truth.normals, seed)
        for source, name in ((FRONTAL, "frontal"), (SIDE, "side"))
    }
    index = next(i for i, r in enumerate(rows) if r.name == "photometric stereo (limit)")
    rows[index] = Row(rows[index].name, rows[index].cells | limit, reference=True)
    return rows


def _collect(
    system: str,
    people: list[YalePerson],
    lights: tuple[str, ...],
    quality: Quality,
    config: EvaluationConfig,
    progress: Progress,
) -> dict[str, Prediction | None]:
    keep = ("normals", "mask", "albedo")
    requests = [
        Request(
            f"{person.name}__{light}",
            lambda person=person, light=light: person.pixels(light),
            True,
            quality,
            keep,
        )
        for person in people
        for light in lights
        if light in person.light_angles
    ]
    return collect(system, "yaleb", requests, config, progress=progress)


def _normals(
    people: list[YalePerson], answers: dict[str, Prediction | None], light: str
) -> Float[np.ndarray, "N H W 3"] | None:
    """Return unit normals for all people, zero where empty; None if no answer has any."""
    maps: list[np.ndarray] = []
    found = False
    for person in people:
        answer = answers.get(f"{person.name}__{light}")
        size = person.skin.shape
        normals = None if answer is None else answer.map("normals", (size[0], size[1]))
        mask = None if answer is None else answer.map("mask", (size[0], size[1]))
        found |= normals is not None
        normals = np.zeros((*size, 3)) if normals is None else normals
        answered = np.linalg.norm(normals, axis=-1) > 0.5
        answered = answered if mask is None else answered & mask
        maps.append(unit(normals) * answered[..., None])
    return np.stack(maps) if found else None


def _albedos(
    people: list[YalePerson], answers: dict[str, Prediction | None], light: str
) -> list[Float[np.ndarray, "H W"]] | None:
    """Return grey albedos in the photos' own values, 0 to 255; None if an answer has none.

    The photos' values are taken as sRGB by a program, so its linear albedo is encoded again: it
    is what the photo would show under shading 1.
    """
    maps: list[np.ndarray] = []
    for person in people:
        answer = answers.get(f"{person.name}__{light}")
        size = person.skin.shape
        albedo = None if answer is None else answer.map("albedo", (size[0], size[1]))
        if albedo is None:
            return None
        grey = torch.from_numpy(albedo.astype(np.float64).mean(-1).clip(min=0))
        maps.append(255 * srgb_from_linear(grey).numpy())
    return maps


def _normal_cells(
    truth: _Truth, frontal: Float[np.ndarray, "N H W 3"], seed: int
) -> dict[str, Cell]:
    triples = list(zip(frontal, truth.normals, truth.trusted, strict=True))
    angles = np.array([median_normal_angle(f, t, m) for f, t, m in triples])
    floor = np.array(
        [
            median_normal_angle(o, t, m)
            for o, t, m in zip(truth.others, truth.normals, truth.trusted, strict=True)
        ]
    )
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


def _stability_cells(
    truth: _Truth, by_light: dict[str, Float[np.ndarray, "N H W 3"] | None], seed: int
) -> dict[str, Cell]:
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


def _relit(
    truth: _Truth,
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


def _albedo(truth: _Truth, albedos: list[Float[np.ndarray, "H W"]], seed: int) -> Cell:
    values = [
        albedo_error(albedo, person.albedo, person.skin)
        for albedo, person in zip(albedos, truth.people, strict=True)
    ]
    return Cell(*mean_and_half_width(np.array(values), seed=seed))
