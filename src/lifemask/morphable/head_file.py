"""Reading the head that ships with the package."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from lifemask.geometry.meshes import split_quads
from lifemask.geometry.subdivision import catmull_clark
from lifemask.morphable.albedo import AlbedoModel, FinePatch
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.eyeballs import Eyeballs
from lifemask.morphable.landmarks import FaceLandmarks, landmarks_from_tensors
from lifemask.morphable.lashes import lash_roots
from lifemask.morphable.teeth import behind_lips
from lifemask.morphable.tongue import between_teeth

HEAD_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "head"
"""The folder of `head.safetensors`, `albedo.safetensors` and `landmarks.safetensors`."""


@dataclass(frozen=True)
class HeadParts:
    """The arguments of `MorphableModel`, under the same names."""

    mean: Float[Tensor, "V 3"]
    """Mean vertices, metres."""
    identity_basis: Float[Tensor, "I V 3"]
    """Metres per standard deviation."""
    expression_basis: Float[Tensor, "E V 3"]
    """Metres at weight 1."""
    expression_names: tuple[str, ...]
    """ARKit's names."""
    triangles: Int[Tensor, "T 3"]
    """Two for each quad."""
    uv: Float[Tensor, "U 2"]
    """Texture coordinates in [0, 1]."""
    uv_triangles: Int[Tensor, "T 3"]
    """Two for each quad of `uv_quads`."""
    quads: Int[Tensor, "Q 4"]
    """Vertex indices."""
    uv_quads: Int[Tensor, "Q 4"]
    """Indices into `uv`."""
    mirror: Int[Tensor, "V"]
    """The vertex on the other side."""
    regions: dict[str, Float[Tensor, "V"]]
    """Weights in [0, 1] of named parts of the face."""
    landmarks: FaceLandmarks
    """All sets are None if the folder has no landmarks."""
    albedo: AlbedoModel | None
    """None if the folder has no albedo."""
    eyeballs: Eyeballs
    """Both eyeballs and their lids."""
    vertex_parts: dict[str, tuple[int, int]]
    """First vertex and the one after the last of each part: skin, eyeballs, lashes and others."""
    triangle_parts: dict[str, tuple[int, int]]
    """The same for triangles."""


def read_head(folder: Path = HEAD_FOLDER, *, identity_modes: int = 100) -> HeadParts:
    """Read the head, and its albedo and landmarks where they exist, from a folder.

    The file holds the control mesh; its skin is refined by one Catmull-Clark level.

    Raises:
        ValueError: a file has another format, or fewer identity modes than `identity_modes`.
    """
    header, stored = _read(folder / "head.safetensors", "lifemask-head-1")
    available = len(stored["identity"])
    if not 0 <= identity_modes <= available:
        raise ValueError(f"identity_modes is {identity_modes}; this head has 0 to {available}.")
    counts = dict(zip(header["parts"].split(","), stored["part_sizes"].tolist(), strict=True))
    skin = counts["skin"]
    subdivision = catmull_clark(stored["skin_quads"].long(), skin)
    shift = subdivision.matrix.shape[0] - skin

    def refine(values: Tensor) -> Tensor:
        return torch.cat([subdivision.apply(values[..., :skin, :]), values[..., skin:, :]], -2)

    quads = torch.cat([subdivision.quads, stored["part_quads"].long() + shift])
    uv_quads = stored["uv_quads"].long()
    vertex_parts = _ranges({**counts, "skin": skin + shift})
    part_of_quad = _part_sizes(quads, vertex_parts)
    region_names = header["regions"].split(",")
    mean, expressions = behind_lips(
        refine(stored["mean"]),
        refine(stored["expression"].float() / 1000),
        upper=vertex_parts["teeth_upper"],
        lower=vertex_parts["teeth_lower"],
    )
    mean = between_teeth(mean, vertex_parts["tongue"])
    return HeadParts(
        mean=mean,
        identity_basis=refine(stored["identity"][:identity_modes].float() / 1000),
        expression_basis=expressions,
        expression_names=ARKIT_EXPRESSIONS,
        triangles=split_quads(quads),
        uv=stored["uv"],
        uv_triangles=split_quads(uv_quads),
        quads=quads,
        uv_quads=uv_quads,
        mirror=stored["mirror"].long(),
        regions=dict(zip(region_names, stored["regions"].float() / 255, strict=True)),
        landmarks=_optional_landmarks(folder / "landmarks.safetensors"),
        albedo=_optional_albedo(folder / "albedo.safetensors"),
        eyeballs=_eyeballs(stored, mean, quads, vertex_parts, identity_modes),
        vertex_parts=vertex_parts,
        triangle_parts={name: (2 * a, 2 * b) for name, (a, b) in part_of_quad.items()},
    )


def _eyeballs(
    stored: dict[str, Tensor],
    mean: Tensor,
    quads: Tensor,
    vertex_parts: dict[str, tuple[int, int]],
    identity_modes: int,
) -> Eyeballs:
    lashes, lids = torch.arange(*vertex_parts["lashes"]), stored["lids"].long()
    roots, anchors = lash_roots(mean, quads, lashes, lids, stored["lid_margin"].long())
    balls = [torch.arange(*vertex_parts[f"eyeball_{side}"]) for side in ("left", "right")]
    return Eyeballs(
        centres=stored["eye_centres"],
        centre_basis=stored["eye_centre_basis"][:identity_modes],
        vertices=torch.stack(balls),
        lids=lids,
        lid_weight=stored["lid_weight"].float() / 255,
        lid_share=stored["lid_share"].float() / 255,
        margin=stored["lid_margin"].long(),
        opening=stored["lid_opening"].float(),
        lashes=lashes,
        lash_anchor=anchors,
        lash_root=roots,
    )


def _ranges(counts: dict[str, int]) -> dict[str, tuple[int, int]]:
    stops = list(accumulate(counts.values()))
    return {name: (stop - counts[name], stop) for name, stop in zip(counts, stops, strict=True)}


def _part_sizes(
    quads: Tensor, vertex_parts: dict[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Return the range of quads of each part; the parts follow each other in the same order."""
    first = quads[:, 0]
    return _ranges(
        {name: int(((first >= a) & (first < b)).sum()) for name, (a, b) in vertex_parts.items()}
    )


def _optional_landmarks(path: Path) -> FaceLandmarks:
    if not path.exists():
        return FaceLandmarks()
    return landmarks_from_tensors(_read(path, None)[1])


def _optional_albedo(path: Path) -> AlbedoModel | None:
    if not path.exists():
        return None
    header, stored = _read(path, "lifemask-albedo-1")
    scale = stored["basis_scale"][:, None, None, None] / 127
    return AlbedoModel(
        stored["mean_log"].float(),
        stored["basis_log"].float() * scale,
        mode_names=tuple(header["modes"].split(",")),
        patches=tuple(_fine_patch(stored, name) for name in ("patch_eye", "patch_teeth")),
        lash_opacity=_fine_patch(stored, "patch_lashes"),
    )


def _fine_patch(stored: dict[str, Tensor], name: str) -> FinePatch:
    top, bottom, left, right = stored[f"{name}_box"].tolist()
    return FinePatch(
        (top, bottom, left, right),
        stored[name].float().permute(2, 0, 1),
        stored[f"{name}_iris"][None].float() / 255,
        stored[f"{name}_weight"][None].float() / 255,
    )


def _read(path: Path, expected_format: str | None) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, str] = file.metadata() or {}
        tensors: dict[str, Tensor] = {}
        for name in file.keys():  # noqa: SIM118  # the file is not a mapping
            tensors[name] = file.get_tensor(name)
    if expected_format and header.get("format") != expected_format:
        raise ValueError(
            f"{path} has format {header.get('format')!r}, expected {expected_format!r}: "
            "rebuild it with tools/build_face_model.py."
        )
    return header, tensors
