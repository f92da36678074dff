"""Remake photos, files and calls that went wrong for users, and check each against the right value.

    python benchmarks/field_cases.py [--quality fast|full] [--cases NAME ...]

Prints one row per measurement: what was made, what was measured, its value, what is right, and whether it
holds. Exits with 1 if a row does not hold. All photos are made of the portraits that ship with the
package, and of heads drawn from them.
"""

import argparse
import contextlib
import io
import json
import math
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFilter
from PIL.PngImagePlugin import PngInfo
from torch.nn.functional import max_pool2d

from lifemask.cli.main import main as lifemask
from lifemask.data.wearables.occluders import HeldThing, held_mesh
from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFit, face_size
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.io.colour import linear_from_srgb, pixels_from_image, srgb_from_linear
from lifemask.io.gltf import encode_glb
from lifemask.io.images import Photo, as_photo, read_photo
from lifemask.io.scenes import Node, Scene, Surface
from lifemask.morphable.assets import asset_path
from lifemask.morphable.contour import fixed_landmarks68
from lifemask.morphable.covered import covered_vertices
from lifemask.perception import FaceObservation
from lifemask.pipeline.face_warnings import face_signals, warnings_of
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.pipeline.views import camera_towards, draw_smooth
from lifemask.rendering import interpolate, rasterize
from lifemask.rendering.texture import sample_texture

PORTRAITS = range(1, 9)
GREY = (128, 128, 128)
CANVASES = ((3000, 2000, 2010, 1260), (11600, 8600, 11270, 8270))
"""Width and height of large photos in pixels, and left and top of the portrait in them."""
MOST_SIGMAS = 0.1
"""Largest allowed difference of a coefficient, in standard deviations."""
MOST_PERCENT, MOST_PERCENT_WORST = 0.2, 0.4
"""Largest allowed movement of landmarks, their mean and the worst one, in percent of the face."""
MOST_MILLIMETRES = 1.0
"""Largest allowed root mean square difference of two neutral faces of one person; those of different
photos of a person differ by more (`spread` of `lifemask evaluate synthetic`)."""
MOST_SECONDS = 5.0
"""Longest time in which a damaged file is refused."""
MOST_PICKLE_BYTES = 5e6
FILM_DIAGONAL_MM = math.hypot(36, 24)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    made: str
    """The photo, file or call."""
    measured: str
    """The quantity and its unit."""
    value: str
    """What was found."""
    right: str
    """What is right."""
    ok: bool
    """Whether it is."""

    @classmethod
    def at_most(cls, made: str, measured: str, value: float, limit: float) -> "Row":
        """Return the row of a number that must not be larger than its limit."""
        return cls(made, measured, f"{value:.3g}", f"<= {limit:g}", value <= limit)

    @classmethod
    def at_least(cls, made: str, measured: str, value: float, limit: float) -> "Row":
        """Return the row of a number that must not be smaller than its limit."""
        return cls(made, measured, f"{value:.3g}", f">= {limit:g}", value >= limit)

    @classmethod
    def equal(cls, made: str, measured: str, value: object, right: object) -> "Row":
        """Return the row of a value that must be equal to another."""
        return cls(made, measured, str(value), str(right), value == right)

    @classmethod
    def holding(cls, made: str, measured: str, text: str, part: str) -> "Row":
        """Return the row of a text that must hold another one."""
        return cls(made, measured, text, f"... {part} ...", part in text)


@dataclass(frozen=True)
class Head:
    """A face as it was found in a photo, without texture."""

    observation: FaceObservation
    fit: FaceFit


@dataclass(frozen=True)
class Bench:
    """What all cases use."""

    reconstructor: FaceReconstructor
    """Finds and fits all faces."""
    face: FaceReconstruction
    """The first portrait; its head is drawn."""
    folder: Path
    """An empty folder for files."""

    def heads(self, photo: Photo) -> list[Head]:
        """Return the heads of a photo, largest first, without textures."""
        parts = self.reconstructor
        return [
            Head(seen, parts.explain(photo.pixels, seen, focal_pixels=photo.focal_pixels))
            for seen in parts.observe(photo, "all", crop=False)
        ]

    def drawn(self, distance: float, *, degrees: float = 0.0, turn_degrees: float = 0.0) -> Photo:
        """Return a photo of the first portrait's head with its true focal length.

        Args:
            distance: between camera and face, metres.
            degrees: angle between head and optical axis.
            turn_degrees: how far the head is turned away.
        """
        model, face = self.reconstructor.model, self.face
        points = model.vertices(face.coefficients)[model.regions["face"] > 0.5]
        camera = camera_towards(
            points, distance, pixels_per_metre=900.0, degrees=degrees, turn_degrees=turn_degrees
        )
        colour, opacity = draw_smooth(face.surface, camera, face.light)
        focal = float(camera.focal_pixels) * FILM_DIAGONAL_MM / math.hypot(*camera.image_size)
        return Photo(pixels_from_image(colour + (1 - opacity) * 0.3), focal)


Case = Callable[[Bench], Iterator[Row]]


def portrait(number: int, side: int | None = None) -> Image.Image:
    """Return one of the portraits, resized so that its longer side has `side` pixels."""
    with Image.open(asset_path(f"samples/portrait_{number}")) as picture:
        whole = picture.convert("RGB")
    if side is None:
        return whole
    scale = side / max(whole.size)
    return whole.resize((round(whole.width * scale), round(whole.height * scale)))


def small_portrait() -> Image.Image:
    """Return a photo with a face of about 50 pixels."""
    return pasted(portrait(1, 100), (400, 300), (150, 100))


def pasted(picture: Image.Image, size: tuple[int, int], corner: tuple[int, int]) -> Image.Image:
    """Return a grey canvas of a size (width, height) with a picture at a corner (left, top)."""
    canvas = Image.new("RGB", size, GREY)
    canvas.paste(picture, corner)
    return canvas


def place(
    bench: Bench, *, canvases: Sequence[tuple[int, int, int, int]] = CANVASES
) -> Iterator[Row]:
    """A portrait on a large grey canvas is the portrait alone.

    Args:
        bench: what all cases use.
        canvases: width and height of each canvas, left and top of the portrait.
    """
    picture = portrait(1, 320)
    (alone,) = bench.heads(as_photo(picture))
    for width, height, left, top in canvases:
        made = f"320 px at ({left}, {top}) of {width} x {height}"
        found = bench.heads(as_photo(pasted(picture, (width, height), (left, top))))
        yield Row.equal(made, "faces", len(found), 1)
        if found:
            yield from _same_head(bench, made, [(found[0], alone, (left, top))])


def tiles(bench: Bench, *, count: int = 30, portraits: Sequence[int] = PORTRAITS) -> Iterator[Row]:
    """Portraits tiled in one photo are the portraits alone."""
    side, columns = 320, math.ceil(math.sqrt(count))
    numbers = [portraits[k % len(portraits)] for k in range(count)]
    alone = {n: bench.heads(as_photo(portrait(n, side)))[0] for n in set(numbers)}
    corners = [(k % columns * side, k // columns * side) for k in range(count)]
    canvas = Image.new("RGB", (columns * side, math.ceil(count / columns) * side), GREY)
    for number, corner in zip(numbers, corners, strict=True):
        canvas.paste(portrait(number, side), corner)
    found = bench.heads(as_photo(canvas))
    made = f"{count} portraits in one photo"
    yield Row.equal(made, "faces", len(found), count)
    pairs: list[tuple[Head, Head, tuple[int, int]]] = []
    for number, corner in zip(numbers, corners, strict=True):
        low = torch.tensor(corner)
        for head in found:
            middle = head.observation.landmarks478[:468, :2].mean(0)
            if ((middle >= low) & (middle < low + side)).all():
                pairs.append((head, alone[number], corner))
    yield Row.equal(made, "faces in their places", len(pairs), count)
    yield from _same_head(bench, made, pairs)


def beside(bench: Bench) -> Iterator[Row]:
    """A head far beside the optical axis is the head on it."""
    ahead, aside = (bench.heads(bench.drawn(0.8, degrees=degrees)) for degrees in (0, 35))
    made = "drawn head 35° beside the axis"
    yield Row.equal(made, "faces", len(aside), 1)
    for head in aside[:1]:
        yield Row.equal(made, "focal length dropped", head.fit.focal_dropped, None)
        yield from _same_person(bench, made, head, ahead[0])


def distance(bench: Bench, *, distances: Sequence[float] = (0.2, 0.3, 0.5, 3.0)) -> Iterator[Row]:
    """A head is the same person at any distance, if the focal length is true."""
    (reference,) = bench.heads(bench.drawn(1.0))
    for metres in distances:
        made = f"drawn head at {metres:g} m"
        found = bench.heads(bench.drawn(metres))
        yield Row.equal(made, "faces", len(found), 1)
        for head in found[:1]:
            yield Row.equal(made, "focal length dropped", head.fit.focal_dropped, None)
            yield from _same_person(bench, made, head, reference)


def crops(bench: Bench, *, portraits: Sequence[int] = range(1, 7)) -> Iterator[Row]:
    """The focal length of a whole photo of 4000 x 3000 pixels is dropped if a crop has kept it."""
    for number in portraits:
        made = f"1200 x 900 crop with portrait {number}, 26 mm"
        path = bench.folder / "crop.jpg"
        size = {"ExifImageWidth": 4000, "ExifImageHeight": 3000}
        picture = pasted(portrait(number, 900), (1200, 900), (150, 0))
        _save_with_exif(picture, path, FocalLengthIn35mmFilm=26, **size)
        (face,) = bench.reconstructor(path)
        yield from _focal_in_json(made, face, "times as far away")
        yield from _as_without_exif(bench, made, face)


def focal(bench: Bench) -> Iterator[Row]:
    """A true focal length in EXIF is used; an impossible one is dropped, and the JSON says so."""
    path = bench.folder / "photo.jpg"
    whole = pasted(portrait(1, 900), (4000, 3000), (1700, 900))
    for made, picture, millimetres, reason in (
        ("4000 x 3000 with its own 26 mm", whole, 26, ""),
        ("640 px portrait, 13 mm", portrait(1), 13, "nearer than 20 cm"),
        ("640 px portrait, 5 mm", portrait(1), 5, "nearer than 20 cm"),
    ):
        _save_with_exif(picture, path, FocalLengthIn35mmFilm=millimetres)
        (face,) = bench.reconstructor(path)
        yield from _focal_in_json(made, face, reason)
        if reason:
            yield from _as_without_exif(bench, made, face)


def warned(bench: Bench) -> Iterator[Row]:
    """A good photo has no warning, and each fault has its own."""
    picture = portrait(1)
    left, top, right, bottom = bench.face.observation.box_xyxy.tolist()
    blur = ImageFilter.GaussianBlur(0.025 * (bottom - top))
    photos = {
        "good": (as_photo(picture), ""),
        "small": (as_photo(small_portrait()), "small"),
        "blurred": (as_photo(picture.filter(blur)), "blurred"),
        "turned": (bench.drawn(0.8, turn_degrees=75), "turned"),
        "cut": (
            as_photo(picture.crop((0, 0, round((left + right) / 2), picture.height))),
            "hidden",
        ),
    }
    for name, (photo, reason) in photos.items():
        (head,) = bench.heads(photo)
        signals = face_signals(photo.pixels, head.observation, head.fit, bench.reconstructor.model)
        found = " ".join(warning.reason for warning in warnings_of(signals))
        yield Row.equal(f"photo: {name}", "warnings", found, reason)


HANDS = (
    ("mouth", 13, 0.6, 0.4),
    ("cheek", 280, 0.7, -0.3),
    ("chin", 152, 0.75, 0.2),
)
"""Names, dense points that a hand touches, the part of the hand there, and its rotation in radians."""
LEAST_COVERED, MOST_COVERED = 0.5, 0.1
"""Least probability with which the face behind a hand is found covered, and most that is added elsewhere."""


def held(bench: Bench, *, numbers: Sequence[int] = (1, 2, 4)) -> Iterator[Row]:
    """The face behind a hand is left out, the rest of it is not, and the confidence falls."""
    for number in numbers:
        picture = portrait(number)
        (clear,) = bench.reconstructor(as_photo(picture))
        for name, target, contact, turn in HANDS:
            made = f"portrait {number}, hand at the {name}"
            photo, hand = _with_hand(picture, clear, target, contact, turn)
            found = bench.reconstructor(photo)
            yield Row.equal(made, "faces", len(found), 1)
            for face in found[:1]:
                behind, beside = _covered_by(hand, clear, face)
                yield Row.at_least(made, "covered behind the hand", behind, LEAST_COVERED)
                yield Row.at_most(made, "covered elsewhere, more", beside, MOST_COVERED)
                fall = clear.confidence - face.confidence
                yield Row.at_least(made, "fall of the confidence", fall, 0.02)


def _with_hand(
    picture: Image.Image, face: FaceReconstruction, target: int, contact: float, turn: float
) -> tuple[Photo, torch.Tensor]:
    """Return a portrait with a hand drawn before its face, and the pixels of the hand."""
    model, fitted = face.model, face.fit.face
    assert model.dense478 is not None
    vertices = model.vertices(fitted.coefficients)
    on_neck = (model.regions["neck"] > 0.5)[model.triangles].all(1)
    places = model.uv[model.uv_triangles[on_neck]].mean(1).T.unsqueeze(1)
    neck = sample_texture(face.texture.albedo, places).mean((1, 2))
    hand = held_mesh(
        HeldThing(
            "hand", target, contact, turn, 0.2, 0.003, 1.0, (0.2, 0.5, 0.5, 0.5, 0.5), False,
            (1.0, 1.0, 1.0),
        ),
        model.dense478.points(vertices, model.triangles),
        neck,
    )  # fmt: skip
    camera, size = fitted.camera, (picture.height, picture.width)
    drawn = rasterize(camera.project(hand.vertices), hand.triangles, size)
    in_camera = camera.to_camera(hand.vertices)
    normals = light_axes_from_camera(vertex_normals(in_camera, hand.triangles))
    colours = hand.colour * fitted.light.shade(normals)
    hand_image = srgb_from_linear(interpolate(colours, hand.triangles, drawn).clamp(0, 1))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    both = torch.where(drawn.mask, hand_image, pixels)
    image = (both.permute(1, 2, 0) * 255).round().byte().numpy()
    return as_photo(image), drawn.mask


def _covered_by(
    hand: torch.Tensor, clear: FaceReconstruction, face: FaceReconstruction
) -> tuple[float, float]:
    """Return the mean probability of being covered behind a hand, and what it adds elsewhere."""
    model, fitted = clear.model, clear.fit.face
    vertices = model.vertices(fitted.coefficients)
    column, row = fitted.camera.project(vertices)[:, :2].long().T
    height, width = hand.shape
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    facing = vertex_normals(fitted.camera.to_camera(vertices), model.triangles)[:, 2] < -0.5
    skin = (model.regions["face"] > 0.5) & inside & facing
    # Between fingers and beside them, as far as a landmark speaks for the skin around it.
    reach = 2 * round(0.06 * float(column[skin].max() - column[skin].min())) + 1
    near = max_pool2d(hand[None].float(), reach, 1, reach // 2)[0] > 0
    behind, beside = (
        mask[row.clamp(0, height - 1), column.clamp(0, width - 1)] for mask in (hand, ~near)
    )
    before, after = (covered_vertices(model, each.fit.face) for each in (clear, face))
    assert before is not None
    assert after is not None
    return (
        float(after[skin & behind].mean()),
        float((after - before)[skin & beside].mean()),
    )


def strict(bench: Bench) -> Iterator[Row]:
    """With `--strict`, a warning gives exit code 4."""
    for name, picture, right in (("good", portrait(1), 0), ("small", small_portrait(), 4)):
        picture.save(bench.folder / f"{name}.png")
        for options, code in (((), 0), (("--strict",), right)):
            found = _run(bench, bench.folder / f"{name}.png", *options)[0]
            yield Row.equal(f"photo: {name}", " ".join(("exit code", *options)), found, code)


def damaged(bench: Bench) -> Iterator[Row]:
    """Damaged heads and lights are refused in one line, soon."""
    camera = {
        "focal_pixels": 500.0,
        "principal_point": [50.0, 50.0],
        "head_to_camera": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]],
        "image_size": [100, 100],
    }
    triangle = Surface(
        np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0, 0.1, 0]], np.float32),
        np.array([[0, 1, 2]]),
    )
    deep = Node("leaf", (triangle,))
    for _ in range(50):
        deep = Node("branch", children=(deep,))

    def head(*nodes: Node, **changes: object) -> bytes:
        return encode_glb(Scene(nodes, {"camera": camera | changes}))

    shown = Node("Head", (triangle,))
    whole = head(shown)
    corner = np.float32(-0.1).tobytes()
    heads = {
        "an intact triangle": whole,
        "head_to_camera of 2 x 2": head(shown, head_to_camera=[[1, 0], [0, 1]]),
        "photo of 2 x 2 pixels": head(shown, image_size=[2, 2]),
        "focal length 0": head(shown, focal_pixels=0),
        "focal length NaN": whole.replace(b'"focal_pixels":500.0', b'"focal_pixels":NaN  '),
        "a vertex at NaN": whole.replace(corner, np.float32(np.nan).tobytes(), 1),
        "no nodes": head(),
        "50 levels of nodes": head(deep),
        "half a file": whole[: len(whole) // 2],
        "an empty file": b"",
    }
    ambient = SphericalHarmonicsLight.ambient().coefficients.tolist()
    lights = {
        "an intact light": json.dumps(ambient),
        "a light of null": "null",
        "light_sh of null": '{"light_sh": null}',
        "a light of NaN": json.dumps([[math.nan] * 3] * 9),
        "100 000 levels of lists": "[" * 100_000,
    }
    path, light, picture = (bench.folder / name for name in ("a.glb", "a.json", "a.png"))
    for made, data in heads.items():
        path.write_bytes(data)
        yield from _refused(made, path, "ambient", picture, intact="intact" in made)
    path.write_bytes(whole)
    for made, text in lights.items():
        light.write_text(text)
        yield from _refused(made, path, str(light), picture, intact="intact" in made)


def overwrite(bench: Bench) -> Iterator[Row]:
    """A file of the user is replaced only if `--overwrite` says so."""
    own = bench.folder / "photo_preview.png"
    portrait(1).save(bench.folder / "photo.jpg")
    own.write_bytes(b"precious")
    made = "photo.jpg beside photo_preview.png"
    code, _, error, seconds = _run(bench, bench.folder / "photo.jpg", output=bench.folder)
    yield Row.equal(made, "exit code", code, 1)
    message = error.replace(f"{bench.folder}{os.sep}", "").strip()
    yield Row.holding(made, "message", message, "is not an earlier result")
    yield Row.at_most(made, "seconds: no work is done", seconds, 0.5)
    yield Row.equal(made, "files", len(os.listdir(bench.folder)), 2)
    yield Row.equal(made, "its file is as before", own.read_bytes() == b"precious", True)
    code = _run(bench, bench.folder / "photo.jpg", "--overwrite", output=bench.folder)[0]
    yield Row.equal(made, "exit code with --overwrite", code, 0)
    yield Row.equal(made, "it is a preview now", read_photo(own).pixels.shape[0] > 100, True)


def calls(bench: Bench) -> Iterator[Row]:
    """The Python API takes what callers have, copies it, and names wrong options."""
    path = Path(asset_path("samples/portrait_1"))
    pixels = read_photo(path).pixels
    data, tensor = path.read_bytes(), torch.from_numpy(pixels).permute(2, 0, 1)
    sources: dict[str, object] = {
        "bytes": data,
        "BytesIO": io.BytesIO(data),
        "PIL image": Image.open(path),
        "floating point": pixels / 255,
        "CHW tensor": tensor,
        "CHW tensor in [0, 1]": tensor.float() / 255,
    }
    for name, source in sources.items():
        layout = "CHW" if isinstance(source, torch.Tensor) else None
        apart = np.abs(as_photo(source, layout=layout).pixels.astype(int) - pixels).max()
        yield Row.at_most(name, "largest difference of a pixel", float(apart), 0)
    frame = pixels.copy()
    (face,) = bench.reconstructor(frame)
    frame[:] = 0
    same = np.array_equal(face.photo.pixels, pixels)
    yield Row.equal("array that is filled again", "the face keeps its photo", same, True)
    head, reference = Head(face.observation, face.fit), Head(bench.face.observation, bench.face.fit)
    yield from _same_head(bench, "array that is filled again", [(head, reference, (0, 0))])
    try:
        FaceReconstructor.from_pretrained(quality="ultra")  # type: ignore[arg-type]
        message = "accepted"
    except ValueError as error:
        message = str(error)
    yield Row.holding('quality="ultra"', "message", message, "Known: fast, full")
    # The photo decides the size of the texture, as it usually does.
    parts = bench.reconstructor
    usual = FaceReconstructor(parts.perception, parts.predictor, parts.fitter)
    face = usual.reconstruct(face.photo, face.observation)
    stored = pickle.dumps(face)
    yield Row.at_most("pickled face", "megabytes", len(stored) / 1e6, MOST_PICKLE_BYTES / 1e6)
    same = pickle.loads(stored).to_json_dict() == face.to_json_dict()
    yield Row.equal("pickled face", "the same JSON", same, True)


def names(bench: Bench) -> Iterator[Row]:
    """Strange names and slightly damaged files give results."""
    data = Path(asset_path("samples/portrait_7")).read_bytes()
    photos = {
        "not UTF-8": (os.fsdecode(b"caf\xe9.jpg"), data),
        "250 bytes": ("a" * 246 + ".jpg", data),
        "without its two end bytes": ("short.jpg", data[:-2]),
    }
    for name, content in photos.values():
        (bench.folder / name).write_bytes(content)
    code, out, _, _ = _run(bench, bench.folder / "*.jpg", "--json")
    reports = {Path(report["photo"]).name: report for report in map(json.loads, out.splitlines())}
    yield Row.equal("'*.jpg' in quotes", "exit code", code, 0)
    yield Row.equal("'*.jpg' in quotes", "photos", len(reports), len(photos))
    for made, (name, _) in photos.items():
        faces = reports[name]["faces"] if name in reports else []
        files = [Path(file) for face in faces for file in face["files"]]
        present = sum(file.is_file() for file in files)
        yield Row.equal(f"name or file: {made}", "files", present, 3)
    pixels = read_photo(asset_path("samples/portrait_7")).pixels
    linear = linear_from_srgb(torch.from_numpy(pixels) / 255)
    info = PngInfo()
    info.add(b"gAMA", (100_000).to_bytes(4, "big"))
    stored = Image.fromarray((linear * 255).round().to(torch.uint8).numpy())
    stored.save(bench.folder / "linear.png", pnginfo=info)
    apart = np.abs(read_photo(bench.folder / "linear.png").pixels.astype(int) - pixels)
    # In dark parts, 8 bits of linear light are much coarser than those of sRGB.
    worst = float(apart[pixels >= 100].max())
    yield Row.at_most("PNG with gAMA 1.0", "largest difference of a bright pixel", worst, 3)


CASES: dict[str, Case] = {
    "place": place,
    "tiles": tiles,
    "beside": beside,
    "crops": crops,
    "focal": focal,
    "distance": distance,
    "warned": warned,
    "held": held,
    "strict": strict,
    "damaged": damaged,
    "overwrite": overwrite,
    "calls": calls,
    "names": names,
}


def main() -> int:
    """Run the cases, print their rows, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quality", choices=("fast", "full"), default="fast")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reconstructor = FaceReconstructor.from_pretrained(quality=options.quality, texture_size=512)
    (face,) = reconstructor(asset_path("samples/portrait_1"))
    good = True
    for name in options.cases:
        started = time.perf_counter()
        print(f"\n{name}: {(CASES[name].__doc__ or '').partition(chr(10))[0]}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for row in CASES[name](Bench(reconstructor, face, Path(folder))):
                mark = "ok  " if row.ok else "FAIL"
                print(f"{mark} {row.made:42} {row.measured:36} {row.value:>12}   {row.right}")
                good &= row.ok
        print(f"     {time.perf_counter() - started:.1f} s", flush=True)
    return 0 if good else 1


def _same_head(
    bench: Bench, made: str, pairs: Sequence[tuple[Head, Head, tuple[int, int]]]
) -> Iterator[Row]:
    """Compare each head with one that was found alone, at a distance (right, down) in pixels."""
    model = bench.reconstructor.model
    identity, expression, mean, worst = [0.0], [0.0], [0.0], [0.0]
    for head, alone, corner in pairs:
        (one, other) = (each.fit.face for each in (head, alone))
        a, b = one.coefficients, other.coefficients
        identity.append(float((a.identity - b.identity).abs().max()))
        sigma = FitConfig().expression_sigma
        expression.append(float((a.expression - b.expression).abs().max()) / sigma)
        seen, expected = (
            face.camera.project(fixed_landmarks68(model, model.vertices(face.coefficients)))[:, :2]
            for face in (one, other)
        )
        away = (seen - torch.tensor(corner) - expected).norm(dim=-1)
        percent = 100 * away / face_size(alone.observation.landmarks478.double())
        mean.append(float(percent.mean()))
        worst.append(float(percent.max()))
    yield Row.at_most(made, "identity, worst mode, sigma", max(identity), MOST_SIGMAS)
    yield Row.at_most(made, "expression, worst weight, sigma", max(expression), MOST_SIGMAS)
    yield Row.at_most(made, "68 points, mean, % of face", max(mean), MOST_PERCENT)
    yield Row.at_most(made, "68 points, worst, % of face", max(worst), MOST_PERCENT_WORST)


def _same_person(bench: Bench, made: str, head: Head, other: Head) -> Iterator[Row]:
    """Compare the neutral faces of two heads."""
    model = bench.reconstructor.model
    a, b = (each.fit.face.coefficients.identity for each in (head, other))
    sigma = float((a - b).square().mean().sqrt())
    one, two = (
        model.vertices(replace(model.neutral(), identity=each))[model.regions["face"] > 0.5]
        for each in (a, b)
    )
    millimetres = 1e3 * float((one - two).square().sum(-1).mean().sqrt())
    yield Row.at_most(made, "identity, RMS, sigma", sigma, MOST_SIGMAS)
    yield Row.at_most(made, "neutral face, RMS, mm", millimetres, MOST_MILLIMETRES)


def _save_with_exif(picture: Image.Image, path: Path, **tags: float) -> None:
    exif = Image.Exif()
    for name, value in tags.items():
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
    picture.save(path, quality=95, exif=exif)


def _focal_in_json(made: str, face: FaceReconstruction, reason: str) -> Iterator[Row]:
    """Check what the JSON says about the focal length; it is used if there is no reason."""
    camera = face.to_json_dict()["camera"]
    yield Row.equal(made, "camera.focal_known", camera["focal_known"], not reason)
    dropped = camera["focal_dropped"]
    if reason:
        yield Row.holding(made, "camera.focal_dropped", str(dropped), reason)
    else:
        yield Row.equal(made, "camera.focal_dropped", dropped, None)


def _as_without_exif(bench: Bench, made: str, face: FaceReconstruction) -> Iterator[Row]:
    """Compare a face with that of the same photo without EXIF."""
    (free,) = bench.heads(replace(face.photo, focal_35mm=None))
    yield from _same_person(bench, made, Head(face.observation, face.fit), free)


def _refused(made: str, head: Path, light: str, picture: Path, *, intact: bool) -> Iterator[Row]:
    """Draw a head in a light with the command."""
    code, _, error, seconds = _command(
        "relight", head, "--light", light, "--output", picture, "--size", "64"
    )
    if intact:
        yield Row.equal(made, "exit code", code, 0)
        return
    refused = code == 1 and len(error.splitlines()) == 1
    message = _short(error.replace(f"{head.parent}{os.sep}", ""))
    yield Row(made, "refusal", message, "one line, exit code 1", refused)
    yield Row.at_most(made, "seconds", seconds, MOST_SECONDS)


def _run(
    bench: Bench, *arguments: str | Path, output: Path | None = None
) -> tuple[int, str, str, float]:
    """Reconstruct photos with the command; see `_command`."""
    output = output or bench.folder / "out"
    quality = bench.reconstructor.fitter.config.quality
    options = ("--quality", quality, "--texture-size", "512", "--output", output)
    return _command("reconstruct", *arguments, *options)


def _command(*arguments: str | Path) -> tuple[int, str, str, float]:
    """Run `lifemask` in this process; return exit code, output, error output and seconds."""
    out, error = io.StringIO(), io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = lifemask([str(argument) for argument in arguments])
    return code, out.getvalue(), error.getvalue(), time.perf_counter() - started


def _short(text: str, most: int = 100) -> str:
    """Return the start of the first line of a text."""
    line = text.partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


if __name__ == "__main__":
    sys.exit(main())
