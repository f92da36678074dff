"""`yaleb`: normals, individuality, stability, relighting and albedo under known lights."""

import numpy as np

from lifemask.evaluation.benchmarks.yaleb_figures import (
    FRONTAL,
    SIDE,
    SOURCES,
    YaleTruth,
    albedo_cell,
    albedo_variation_cell,
    normal_cells,
    normal_error_cell,
    predicted_albedos,
    predicted_normals,
    read_truth,
    relit_by_division_cell,
    relit_cell,
    stability_cells,
)
from lifemask.evaluation.collect import Progress, Request, collect, silent
from lifemask.evaluation.config import EvaluationConfig, Quality
from lifemask.evaluation.datasets import YalePerson, development_folder
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.tables import Cell, Column, Row, Table

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


def run(config: EvaluationConfig, *, progress: Progress = silent) -> Table:
    """Return one table with all figures that use known lights and photometric stereo."""
    truth = read_truth(development_folder(config.data))
    rows = [_system_row(s, truth, config, progress) for s in config.systems]
    return Table(
        "yaleb",
        "normals, individuality, stability, relighting and albedo of 8 people, photos given alone",
        _COLUMNS,
        (*rows, *_reference_rows(truth, config.seed)),
        (
            "normals: median angle over skin; an empty pixel counts 90°. others' mean: the mean "
            "true normals of the other seven people, the same for every photo of a person.",
            "individuality: correlation of the deviation from the other people with the true "
            "deviation, below and above a Gaussian of 5 pixels. In brackets: for how many people "
            "the true deviation of the right person fits best.",
            "stability: change of the normals with the light over the difference between people; "
            "eight lights, quality fast; 0 is perfect.",
            "relit: every other light within 50° predicted as albedo x max(0, n.l); median error. "
            "The albedo is the photo over the shading of the same normals, or (own) the program's "
            "own, sRGB-encoded as the photo is.",
            "albedo: median error to photometric stereo after one scale; variation: change over "
            "eight lights, 0 for every constant albedo; ± over people.",
            "dashes: 3DDFA_V2 and the mean face give no albedo, landmarks no normals; a reference "
            "has only the figures that it is a reference for.",
        ),
    )


def _system_row(system: str, truth: YaleTruth, config: EvaluationConfig, progress: Progress) -> Row:
    people, seed = truth.people, config.seed
    quality: Quality = "fast" if config.fast else "full"
    full = _collect(system, people, (FRONTAL, SIDE), quality, config, progress)
    fast = _collect(system, people, STABILITY_LIGHTS, "fast", config, progress)
    cells: dict[str, Cell] = {}
    frontal = predicted_normals(people, full, FRONTAL)
    if frontal is not None:
        cells |= normal_cells(truth, frontal, seed)
    by_light = {light: predicted_normals(people, fast, light) for light in STABILITY_LIGHTS}
    cells |= stability_cells(truth, by_light, seed)
    for name, source in SOURCES.items():
        normals = predicted_normals(people, full, source)
        if normals is None:
            continue
        cells[f"relit {name} %"] = relit_by_division_cell(truth, source, normals, seed)
        own = predicted_albedos(people, full, source)
        if own is not None:
            cells[f"own relit {name} %"] = relit_cell(truth, source, own, normals, seed)
            cells[f"albedo {name} %"] = albedo_cell(truth, own, seed)
    maps = [predicted_albedos(people, fast, light) for light in STABILITY_LIGHTS]
    present = [m for m in maps if m is not None]
    if len(present) == len(maps):
        cells["albedo variation %"] = albedo_variation_cell(truth, present, seed)
    return Row(config.label(system), cells)


def _reference_rows(truth: YaleTruth, seed: int) -> list[Row]:
    flat = np.zeros_like(truth.normals)
    flat[..., 2] = 1
    others = {"normals °": normal_error_cell(truth, truth.others, seed)}
    stereo: dict[str, Cell] = {}
    photo: dict[str, Cell] = {}
    constant: dict[str, Cell] = {"albedo variation %": Cell(0.0)}
    true_albedo = [p.albedo for p in truth.people]
    for name, source in SOURCES.items():
        photos = [p.photo(source) for p in truth.people]
        others[f"relit {name} %"] = relit_by_division_cell(truth, source, truth.others, seed)
        stereo[f"relit {name} %"] = relit_by_division_cell(truth, source, truth.normals, seed)
        stereo[f"own relit {name} %"] = relit_cell(truth, source, true_albedo, truth.normals, seed)
        photo[f"relit {name} %"] = relit_cell(truth, source, photos, None, seed)
        photo[f"albedo {name} %"] = albedo_cell(truth, photos, seed)
        ones = [np.ones_like(p) for p in photos]
        constant[f"albedo {name} %"] = albedo_cell(truth, ones, seed)
    lit = [[p.photo(light) for p in truth.people] for light in STABILITY_LIGHTS]
    photo["albedo variation %"] = albedo_variation_cell(truth, lit, seed)
    named = {
        "flat": {"normals °": normal_error_cell(truth, flat, seed)},
        "average of the others": others,
        "photometric stereo (limit)": stereo,
        "photo unchanged": photo,
        "constant albedo": constant,
    }
    return [Row(name, cells, reference=True) for name, cells in named.items()]


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
