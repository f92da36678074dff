"""Rebuild the default head from public CC0 packages: `python tools/build_face_model.py [--check]`.

Reads the pinned packages (downloaded when missing) and writes `head.safetensors`,
`albedo.safetensors` and their cards. The result is deterministic up to rounding in the linear
algebra; `--check` rebuilds in memory and compares with what ships.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from face_model.albedo import build_albedo  # noqa: E402
from face_model.assembly import PARTS, Assembly  # noqa: E402
from face_model.atlas import build_atlas  # noqa: E402
from face_model.expressions import expression_basis  # noqa: E402
from face_model.identity import Modes, People, align, principal_modes  # noqa: E402
from face_model.makehuman import EYE_HELPER, BaseMesh, read_base_mesh  # noqa: E402
from face_model.regions import NAMES, region_weights  # noqa: E402
from face_model.sources import Sources  # noqa: E402
from face_model.topology import Skin, crop_skin, refine_mirror  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

ASSETS = Path(__file__).parent.parent / "src/lifemask/assets/head"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lifemask"
RAW_MODES = 199
SHIPPED_MODES = 100


def raw_identity(
    sources: Sources, base: BaseMesh, skin: Skin, assembly: Assembly
) -> tuple[NDArray[np.int64], Modes]:
    """Return the base vertices in use and the principal modes of 5,000 random people on them."""
    index = assembly.needed
    people = People(sources, index)
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
    """Return `raw_identity`, kept in a file: it is the slow step and rarely changes."""
    fields = ("mean", "basis", "std", "variance_share")
    if path.exists():
        with np.load(path) as stored:
            return stored["index"], Modes(*(stored[name] for name in fields))
    index, modes = raw_identity(sources, base, skin, assembly)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, index=index, **{name: getattr(modes, name) for name in fields})
    return index, modes


def build(
    sources: Sources, raw_path: Path
) -> tuple[dict[str, dict[str, NDArray[np.generic]]], tuple[str, ...]]:
    """Return the tensors of `head.safetensors` and `albedo.safetensors`, and the albedo modes."""
    base = read_base_mesh(sources)
    skin = crop_skin(base)
    assembly = Assembly(sources, base, skin)
    people_path = raw_path.with_name("people.npz")
    index, modes = cached_identity(people_path, sources, base, skin, assembly)
    shape = base.vertices.copy()
    shape[index] = modes.mean
    control, centres = assembly.place(shape)
    origin = centres.mean(0)
    control, centres = control - origin, centres - origin
    moved = np.zeros((RAW_MODES, len(base.vertices), 3))
    moved[:, index] = modes.basis
    identity, eye_basis = assembly.displace(moved, control, centres)
    expression = expression_basis(sources, assembly, control)
    uv, uv_quads = build_atlas(assembly, control)
    regions = region_weights(sources, assembly, control)
    mirror = assembly.fine_mirror(refine_mirror(skin))
    _save_raw(raw_path, assembly, modes, control, identity, centres, eye_basis, regions, uv, uv_quads)
    fine = skin.refine(control[: len(skin.base_index)])
    lids, lid_tensors, anchor = lid_bindings(assembly, control, fine, centres)
    part_quads, start = [], len(skin.base_index)
    for name in PARTS[1:]:
        part_quads.append(assembly.parts[name].quads + start)
        start += len(assembly.parts[name].rest)
    head = {
        "mean": control.astype(np.float32),
        "identity": (identity[:SHIPPED_MODES] * 1000).astype(np.float16),
        "expression": (expression * 1000).astype(np.float16),
        "eye_centres": centres.astype(np.float32),
        "eye_centre_basis": eye_basis[:SHIPPED_MODES].astype(np.float32),
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
    """Return lid vertices (2, L), how they close, and the margin vertex of each lash vertex."""
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
    control: NDArray[np.float64],
    identity: NDArray[np.float64],
    centres: NDArray[np.float64],
    eye_basis: NDArray[np.float64],
    regions: dict[str, NDArray[np.float64]],
    uv: NDArray[np.float64],
    uv_quads: NDArray[np.int64],
) -> None:
    """Write what calibration needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    skin = assembly.skin
    subdivision = skin.subdivision.matrix
    np.savez(
        path,
        mean=control,
        basis=identity.astype(np.float32),
        std=modes.std,
        variance_share=modes.variance_share,
        eye_centres=centres,
        eye_centre_basis=eye_basis,
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


def main() -> None:
    """Build and write, or check, the assets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE / "sources")
    parser.add_argument("--output", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    tensors, modes = build(Sources(arguments.cache), CACHE / "build/head_raw.npz")
    arguments.output.mkdir(parents=True, exist_ok=True)
    header = {"format": "lifemask-head-1", "parts": ",".join(PARTS), "regions": ",".join(NAMES)}
    save_file(tensors["head"], arguments.output / "head.safetensors", header)
    albedo_header = {"format": "lifemask-albedo-1", "modes": ",".join(modes)}
    save_file(tensors["albedo"], arguments.output / "albedo.safetensors", albedo_header)
    for name in ("head", "albedo"):
        size = (arguments.output / f"{name}.safetensors").stat().st_size
        print(f"{name}.safetensors: {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
