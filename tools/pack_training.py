"""Pack a training into one folder that runs on a bare CUDA machine: PyTorch, numpy and Pillow.

    python tools/pack_training.py direct_regression --output packed --minutes 25
    python packed/run.py                       # on that machine: no internet, no installation
    python packed/run.py --resume back         # later, on another machine

The folder holds the code, the recipe, the head, the networks that training starts from, photos
reduced to the crops, and their observations. `run.py` writes the folder `back/`: the averaged
weights as float16 and the whole state in parts, each below 16 MB.
"""

import argparse
import io
import json
import shutil
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from lifemask.data.observed import ObservationCache, ObservedFace, observe_all
from lifemask.data.photos import PhotoPlace, RawPhoto, find_files, find_shards, index_shards
from lifemask.io.files import OutputError
from lifemask.io.images import decode_photo
from lifemask.perception.framing import face_frame
from lifemask.systems.registry import build_system, find_recipe
from lifemask.training.config import (
    BankSource,
    PhotoSource,
    RerenderedSource,
    SyntheticSource,
    TrainingError,
)
from lifemask.training.packed import PART_BYTES, job_recipe

LIMIT_BYTES = 55_000_000
"""Largest size of the folder."""

ROOM = 1.45
"""Side of a reduced photo in units of the frame, enough for a rotated and shifted frame."""

# Packages that training does not use.
_LEFT_OUT_CODE = ("cli", "service", "batch", "evaluation")
_LEFT_OUT_ASSETS = ("samples/", "perception/identity", "perception/blendshapes", "systems/")
# These networks are only for photos without observations, but all packed photos have one.
_PERCEPTION = ("perception/segmentation", "perception/yunet", "perception/face_mesh_light")

_RUN = '''\
"""Run the training in this folder: python run.py [--help]."""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "code"))
sys.path.append(str(FOLDER / "fallback"))  # last, so that installed packages are preferred
os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER / "code"), str(FOLDER / "fallback")])
os.environ["LIFEMASK_CACHE"] = str(FOLDER / "cache")

if __name__ == "__main__":
    import tarfile

    observed = FOLDER / "observed.tar.gz"
    if observed.exists() and not (FOLDER / "cache").exists():
        with tarfile.open(observed) as archive:
            archive.extractall(FOLDER / "cache", filter="data")

    from lifemask.systems.registry import build_system, find_recipe
    from lifemask.training.packed import main

    raise SystemExit(main(FOLDER, find_recipe, build_system))
'''


def main() -> int:
    """Pack the folder, check its size, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="changes to the recipe, path=value")
    parser.add_argument("--output", type=Path, required=True, help="folder to create")
    parser.add_argument("--data", type=Path, help="folder of photos and fits")
    parser.add_argument("--minutes", type=float, help="length of the whole training")
    parser.add_argument("--photo-side", type=int, default=240, help="pixels of a photo's frame")
    parser.add_argument("--quality", type=int, default=85, help="of JPEG")
    options = parser.parse_args()
    job = {"recipe": options.recipe, "changes": options.changes, "minutes": options.minutes}
    try:
        pack(options.output, job, options.data, side=options.photo_side, quality=options.quality)
    except (TrainingError, OutputError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def pack(
    output: Path, job: dict[str, object], data: Path | None, *, side: int, quality: int
) -> None:
    """Create the folder.

    Raises:
        TrainingError: the recipe is wrong, the folder is not empty, or the folder or the weights
            are too large.
    """
    recipe = job_recipe(job, find_recipe)
    if output.exists() and any(output.iterdir()):
        raise TrainingError(f"{output} is not empty. Choose another --output.")
    system = build_system(recipe.system.name, recipe.system.options)
    weights = sum(t.numel() for t in system.state_dict().values()) * 2
    if weights > PART_BYTES:
        raise TrainingError(
            f"The weights need {weights / 1e6:.0f} MB as float16; at most "
            f"{PART_BYTES / 1e6:.0f} MB are allowed. Make the system smaller."
        )
    banks = [n for n, s in recipe.sources.items() if isinstance(s, BankSource) and s.share > 0]
    if banks:
        raise TrainingError(
            f"Source {banks[0]!r} is a bank, which is too large to be packed. Set its share to 0, or "
            "copy the bank to the other machine and train there with `lifemask train`."
        )
    code = Path(__file__).resolve().parents[1] / "src" / "lifemask"
    _copy_code(code, output / "code" / "lifemask")
    for package in ("jaxtyping", "wadler_lindig"):
        _copy_package(package, output / "fallback")
    shutil.copytree(Path(__file__).with_name("bare_machine") / "safetensors",
                    output / "fallback" / "safetensors", ignore=_no_bytecode)  # fmt: skip
    for name, source in recipe.sources.items():
        if isinstance(source, PhotoSource) and source.share > 0:
            _pack_photos(name, source, data, output, side=side, quality=quality)
        elif isinstance(source, RerenderedSource | SyntheticSource) and source.share > 0:
            for store in find_files(data, source.stores):
                target = output / "data" / Path(source.stores[0]).parent / store.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(store, target)
    if (output / "packing").exists():
        with tarfile.open(output / "observed.tar.gz", "w:gz") as archive:
            archive.add(output / "packing" / "observed", "observed")
        shutil.rmtree(output / "packing")
    (output / "job.json").write_text(json.dumps(job, indent=2) + "\n", "utf-8")
    (output / "run.py").write_text(_RUN, "utf-8")
    _report(output)


def _copy_code(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        asset = place.as_posix().removeprefix("assets/")
        if place.parts[0] in _LEFT_OUT_CODE or path.suffix not in (".py", ".safetensors", ".json"):
            continue
        if place.parts[0] == "assets":
            heavy = asset.startswith(_PERCEPTION) and path.suffix == ".safetensors"
            if asset.startswith(_LEFT_OUT_ASSETS) or heavy:
                continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / place)


def _copy_package(name: str, target: Path) -> None:
    """Copy an installed package of plain Python, with its metadata and licence."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise TrainingError(f"The package {name} is not installed here, so it cannot be packed.")
    folder = Path(spec.origin).parent
    shutil.copytree(folder, target / name, ignore=_no_bytecode)
    for about in folder.parent.glob(f"{name}-*.dist-info"):
        shutil.copytree(about, target / about.name)


def _no_bytecode(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


def _pack_photos(
    name: str, source: PhotoSource, data: Path | None, output: Path, *, side: int, quality: int
) -> None:
    store = ObservationCache.default()
    places, _ = index_shards(find_shards(data, source.shards))
    kept, _ = observe_all(places[: source.limit], store)
    packed = ObservationCache(output / "packing" / "observed" / store.folder.name)
    shards: dict[Path, list[tuple[PhotoPlace, Path]]] = {}
    for place, path in kept:
        shards.setdefault(place.shard, []).append((place, path))
    for shard, members in shards.items():
        pattern = next(p for p in source.shards if shard.match(p))
        target = output / "data" / Path(pattern).parent / shard.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w") as archive:
            for place, path in members:
                photo, face = reduced(place.read(), store.read(path), side, quality)
                _add(archive, f"{photo.key}.jpg", photo.image)
                _add(archive, f"{photo.key}.json", json.dumps(photo.about).encode())
                packed.write(packed.path(photo.image), face)
    print(f"{name}: {len(kept)} photos")


def reduced(
    photo: RawPhoto, face: ObservedFace, side: int, quality: int
) -> tuple[RawPhoto, ObservedFace]:
    """Return a square photo around a face, with a frame of at most `side` pixels, and the face in it."""
    pixels = decode_photo(io.BytesIO(photo.image), name=photo.key).pixels
    frame = face_frame(face.landmarks478)
    half = float(frame.side) * ROOM / 2
    x, y = frame.centre.tolist()
    left, top = max(int(x - half), 0), max(int(y - half), 0)
    right, bottom = min(int(x + half) + 1, pixels.shape[1]), min(int(y + half) + 1, pixels.shape[0])
    image = Image.fromarray(pixels[top:bottom, left:right].copy())
    scale = min(1.0, side / float(frame.side))
    size = (max(16, round(image.width * scale)), max(16, round(image.height * scale)))
    scales = torch.tensor([size[0] / image.width, size[1] / image.height])
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    corner = torch.tensor([float(left), float(top)])
    skin_to_photo = face.skin_to_photo.clone()
    skin_to_photo[:, 2] -= corner
    moved = ObservedFace(
        (face.landmarks478 - corner) * scales,
        face.weight478,
        face.skin,
        skin_to_photo * scales[:, None],
    )
    about = dict(photo.about)
    if points := about.get("landmarks21_xy"):
        about["landmarks21_xy"] = [
            p and ((torch.tensor(p) - corner) * scales).tolist() for p in points
        ]
    return RawPhoto(photo.key, buffer.getvalue(), about), moved


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _report(output: Path) -> None:
    """Print the sizes of the folder's parts; raise a TrainingError if it is too large."""
    sizes: dict[str, int] = {}
    for path in output.rglob("*"):
        if path.is_file():
            part = path.relative_to(output).parts[0]
            sizes[part] = sizes.get(part, 0) + path.stat().st_size
    for part, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{part:14} {size / 1e6:6.1f} MB")
    total = sum(sizes.values())
    print(f"{'in all':14} {total / 1e6:6.1f} MB")
    if total > LIMIT_BYTES:
        raise TrainingError(
            f"The folder has {total / 1e6:.1f} MB; at most {LIMIT_BYTES / 1e6:.0f} are allowed. "
            "Lower --photo-side or --quality, or set a source's limit."
        )


if __name__ == "__main__":
    raise SystemExit(main())
