"""Photos of all kinds are read upright in 8-bit sRGB, and manipulated files give a clear error."""

import io
import logging
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from lifemask.io.images import (
    Photo,
    PhotoError,
    as_photo,
    encode_image,
    read_photo,
    write_image,
)


@pytest.fixture
def picture() -> np.ndarray:
    """Return a smooth colourful picture of 40 rows and 60 columns; all corners are different."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, columns * 4, 255 - rows * 3], axis=-1).astype(np.uint8)


def close(photo: Photo, expected: np.ndarray, tolerance: float = 2) -> bool:
    difference = np.abs(photo.pixels.astype(int) - expected.astype(int))
    return photo.pixels.shape == expected.shape and difference.mean() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp", "ppm", "avif", "jpg", "jp2"])
def test_common_formats_read_alike(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"somebody.{suffix}"
    Image.fromarray(picture).save(path, quality=95)
    photo = read_photo(path)
    assert photo.name == "somebody"
    assert photo.image_size == (40, 60)
    assert close(photo, picture, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_upright_for_every_orientation_of_the_camera(
    tmp_path: Path, picture: np.ndarray, orientation: int
) -> None:
    """The stored pixels are the upright pixels after the inverse of EXIF's orientation."""
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(store(picture)))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "turned.png").pixels, picture)


def test_grey_palette_and_one_bit_become_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    grey = Image.fromarray(picture).convert("L")
    for mode in ("L", "P", "1"):
        grey.convert(mode).save(tmp_path / "a.png")
        expected = np.asarray(grey.convert(mode).convert("RGB"))
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_brightness(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    pixels = read_photo(tmp_path / f"deep.{suffix}").pixels
    expected = np.round(values / 257)
    assert np.abs(pixels - expected[..., None]).max() <= 1


def test_sixteen_bit_colour_keeps_its_brightness(tmp_path: Path, picture: np.ndarray) -> None:
    """Pillow cannot write such a file, so it is written here."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in picture)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert close(read_photo(tmp_path / "deep.png"), picture, 1)


def test_cmyk_gives_the_original_colours(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert close(read_photo(tmp_path / "print.jpg"), picture, 4)


def test_transparent_parts_are_white(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:, :20], alpha[:, 20:40] = 255, 128
    Image.fromarray(np.concatenate([picture, alpha], -1)).save(tmp_path / "cutout.png")
    pixels = read_photo(tmp_path / "cutout.png").pixels
    np.testing.assert_array_equal(pixels[:, :20], picture[:, :20])
    assert (pixels[:, 40:] == 255).all()
    half = (picture[:, 20:40].astype(int) * 128 + 255 * 127) / 255
    assert np.abs(pixels[:, 20:40] - half).max() <= 1


def test_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert close(read_photo(path), np.asarray(frames[0]), 3)


def test_colour_profile_is_converted_to_srgb(tmp_path: Path, picture: np.ndarray) -> None:
    """Swapped primaries in the profile must swap the colours back."""
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.profileToProfile(
        Image.fromarray(picture), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    profile = ImageCms.ImageCmsProfile(lab).tobytes()
    to_lab.save(tmp_path / "lab.tiff", icc_profile=profile)
    assert close(read_photo(tmp_path / "lab.tiff"), picture, 3)


def test_broken_colour_profile_is_ignored_with_a_warning(
    tmp_path: Path, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=b"no profile" * 20)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, picture)
    assert "colour profile" in caplog.text


def test_heic_reads_upright(tmp_path: Path, picture: np.ndarray) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
    pillow_heif.register_heif_opener()
    smooth = Image.fromarray(picture).resize((120, 80), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "phone.heic", quality=95)
    assert close(read_photo(tmp_path / "phone.heic"), np.asarray(smooth), 4)


def test_heic_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone.heic").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + b"\0" * 12)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"pip install 'lifemask\[heif\]'"):
        read_photo(tmp_path / "phone.heic")


def photo_with_exif(path: Path, size: tuple[int, int], **tags: float) -> Photo:
    image = Image.new("RGB", size)
    exif = image.getexif()
    for name, value in tags.items():
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
    image.save(path, exif=exif)
    return read_photo(path)


def test_focal_length_comes_from_exif(tmp_path: Path) -> None:
    """A 3:2 photo has the shape of the film, so a focal length of 36 mm is its width."""
    photo = photo_with_exif(tmp_path / "a.jpg", (600, 400), FocalLengthIn35mmFilm=36)
    assert photo.focal_35mm == 36
    assert photo.focal_pixels == pytest.approx(600)


def test_focal_length_from_sensor_data_equals_its_35mm_equivalent(tmp_path: Path) -> None:
    """A lens of 25 mm on a sensor of 18 x 12 mm is equal to one of 50 mm on 36 x 24 mm."""
    photo = photo_with_exif(
        tmp_path / "a.jpg",
        (600, 400),
        FocalLength=25.0,
        FocalPlaneXResolution=6000 / 18,
        FocalPlaneResolutionUnit=4,
        ExifImageWidth=6000,
        ExifImageHeight=4000,
    )
    assert photo.focal_35mm == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLength": 50.0},
        {"FocalLengthIn35mmFilm": 50, "ExifImageWidth": 6000, "ExifImageHeight": 6000},
    ],
    ids=["no EXIF", "zero means unknown", "no sensor data", "cropped afterwards"],
)
def test_focal_length_without_exif_is_unknown(tmp_path: Path, tags: dict[str, float]) -> None:
    photo = photo_with_exif(tmp_path / "a.jpg", (600, 400), **tags)
    assert photo.focal_35mm is None
    assert photo.focal_pixels is None


def test_reduced_photo_keeps_shape_colours_and_relative_focal_length(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:800, 0:1200] / 1200
    big = np.stack([rows * 200, columns * 200, 1 - rows], axis=-1).astype(np.uint8)
    Image.fromarray(big).save(tmp_path / "big.jpg", quality=95)
    full, small = (read_photo(tmp_path / "big.jpg", longest_side=side) for side in (None, 300))
    assert full.image_size == (800, 1200)
    assert small.image_size == (200, 300)
    expected = Image.fromarray(full.pixels).resize((300, 200), Image.Resampling.BOX)
    assert close(small, np.asarray(expected))
    assert read_photo(tmp_path / "big.jpg", longest_side=5000).image_size == (800, 1200)


def hostile_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.jpg"
    match kind:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "text":
            path.write_text("hello, I am a photo, really")
        case "truncated jpeg":
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(path)
            path.write_bytes(path.read_bytes()[:2000])
        case "truncated png":
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(path, "PNG")
            path.write_bytes(path.read_bytes()[:2000])
        case "tiny":
            Image.new("RGB", (1, 1)).save(path)
        case "bomb":
            Image.new("1", (12000, 10000)).save(path, "PNG")
        case "huge bomb":
            Image.new("1", (30000, 20000)).save(path, "PNG")
        case "floats":
            Image.fromarray(np.zeros((40, 40), np.float32)).save(path, "TIFF")
        case "postscript":
            path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "is not a photo"),
        ("truncated jpeg", "damaged"),
        ("truncated png", "damaged"),
        ("tiny", "1 x 1 pixels"),
        ("bomb", "120 megapixels"),
        ("huge bomb", "too large"),
        ("floats", "32-bit floats"),
        ("postscript", "is not a photo"),
    ],
)
def test_manipulated_files_give_a_clear_error(tmp_path: Path, kind: str, message: str) -> None:
    path = hostile_file(tmp_path, kind)
    with pytest.raises(PhotoError, match=message) as caught:
        read_photo(path)
    assert path.name in str(caught.value)


def test_unreadable_file_gives_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PhotoError, match="Permission denied"):
        read_photo(tmp_path / "secret.jpg")


def test_limit_on_pixels_can_be_changed(tmp_path: Path) -> None:
    Image.new("L", (1000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(PhotoError, match="fewer than 1 megapixels"):
        read_photo(tmp_path / "a.png", megapixels_allowed=1.0)
    assert read_photo(tmp_path / "a.png", megapixels_allowed=1.1).image_size == (1000, 1000)


def test_damaged_files_never_raise_anything_else(tmp_path: Path, picture: np.ndarray) -> None:
    """Random changes and cuts of good files give a photo or a PhotoError, nothing else."""
    random = np.random.default_rng(0)
    for suffix in ("jpg", "png", "gif", "webp", "tiff"):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for position in random.integers(0, len(data), 8):
                data[position] = random.integers(256)
            path = tmp_path / f"broken.{suffix}"
            path.write_bytes(data[: random.integers(1, len(data) + 1)])
            try:
                assert read_photo(path).pixels.dtype == np.uint8
            except PhotoError as error:
                assert "broken" in str(error)


def bytes_of(picture: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, **options)
    return buffer.getvalue()


def test_photos_from_memory(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "a.png"
    data = bytes_of(picture)
    path.write_bytes(data)
    photo = as_photo(path)
    assert as_photo(photo) is photo
    sources = [
        str(path),
        picture,
        Image.fromarray(picture),
        data,
        bytearray(data),
        io.BytesIO(data),
    ]
    sources += [picture / 255, (picture / 255).astype(np.float32)]
    for source in sources:
        np.testing.assert_array_equal(as_photo(source).pixels, picture)
    with path.open("rb") as file:
        assert as_photo(file).name == "a"
    with path.open("rb") as file, zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", file.read())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("a.png") as member:
        np.testing.assert_array_equal(as_photo(member).pixels, picture)


def test_tensors_say_the_order_of_their_axes(picture: np.ndarray) -> None:
    rows_first = torch.from_numpy(picture)
    channels_first = rows_first.permute(2, 0, 1)
    for tensor, layout in ((rows_first, "HWC"), (channels_first, "CHW")):
        for values in (tensor, tensor / 255, (tensor / 255).double().requires_grad_()):
            np.testing.assert_array_equal(as_photo(values, layout=layout).pixels, picture)
        with pytest.raises(PhotoError, match="layout='CHW' or layout='HWC'"):
            as_photo(tensor)
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    np.testing.assert_array_equal(as_photo(planes, layout="CHW").pixels, picture)
    with pytest.raises(PhotoError, match=r"shape \(3, height, width\)"):
        as_photo(rows_first, layout="CHW")


def test_pixels_are_copied(picture: np.ndarray) -> None:
    """A camera writes each frame into the same array."""
    for make in (as_photo, Photo):
        frame = picture.copy()
        photo = make(frame)
        frame[:] = 0
        np.testing.assert_array_equal(photo.pixels, picture)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "Got NoneType, which is no photo"),
        (["a.jpg", "b.jpg"], "Got list, which is no photo.*one by one"),
        (np.zeros((4, 4)), r"float64 of shape \(4, 4\)"),
        (np.zeros((40, 40, 3), np.int32), r"int32 of shape \(40, 40, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), "4 x 4 pixels"),
        (np.full((40, 40, 3), np.nan), "from nan to nan"),
        (np.full((40, 40, 3), 128.0), r"from 128 to 128; sRGB in \[0, 1\].*by 255"),
        (b"", "empty"),
        (b"hello, I am a photo", "the photo in memory is not a photo"),
        (io.StringIO("text"), "gave str instead of bytes.*'rb'"),
        ("a\0b", "is not the name of a file"),
    ],
    ids=["none", "list", "grey", "int32", "tiny", "nan", "0 to 255", "empty", "text", "text file",
         "null"],
)  # fmt: skip
def test_what_is_no_photo_gives_a_clear_error(source: object, message: str) -> None:
    with pytest.raises(PhotoError, match=message):
        as_photo(source)


def test_lazy_errors_of_pillow_are_photo_errors(picture: np.ndarray) -> None:
    """Pillow reads only the header when it opens a file."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(PhotoError, match="the image is damaged"):
        as_photo(Image.open(io.BytesIO(bytes_of(noise)[:5000])))
    closed = Image.open(io.BytesIO(bytes_of(picture)))
    closed.close()
    with pytest.raises(PhotoError, match="the image is damaged"):
        as_photo(closed)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_only_its_end_is_read(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    data = bytes_of(noise, "JPEG", quality=80, **options)
    whole = as_photo(data).pixels
    for lost in (1, 2):
        np.testing.assert_array_equal(as_photo(data[:-lost]).pixels, whole)
    for lost in (10, 40, len(data) // 2):
        with pytest.raises(PhotoError, match="damaged"):
            as_photo(data[:-lost])


def png_with_gamma(picture: np.ndarray, gamma: float, *, srgb: bool = False) -> bytes:
    """Return a PNG file with the chunk gAMA, and sRGB if wanted, before its pixels."""
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    if srgb:
        info.add(b"sRGB", b"\0")
    return bytes_of(picture, pnginfo=info)


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8])
def test_gamma_of_png_files_is_converted_to_srgb(picture: np.ndarray, gamma: float) -> None:
    """The file stores light ** gamma; each colour may differ by the rounding of the stored values."""
    light = np.where(
        picture / 255 <= 0.04045, picture / 255 / 12.92, ((picture / 255 + 0.055) / 1.055) ** 2.4
    )
    stored = np.round(light**gamma * 255).astype(np.uint8)
    bright = picture >= 100
    found = as_photo(png_with_gamma(stored, gamma)).pixels.astype(int)
    assert np.abs(found - picture)[bright].max() <= 3
    layers = np.dstack([stored, np.full(stored.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(as_photo(png_with_gamma(layers, gamma)).pixels, found)
    deep = Image.fromarray((light[..., 0] ** gamma * 65535).astype(np.uint16))
    buffer, info = io.BytesIO(), PngInfo()
    info.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    deep.save(buffer, "PNG", pnginfo=info)
    np.testing.assert_allclose(as_photo(buffer.getvalue()).pixels[..., 0], picture[..., 0], atol=1)


@pytest.mark.parametrize(("gamma", "srgb"), [(1 / 2.2, False), (1.0, True), (0.0001, False)])
def test_gamma_that_says_nothing_new_is_ignored(
    picture: np.ndarray, gamma: float, srgb: bool
) -> None:
    """It is that of sRGB, the chunk sRGB is there too, or no screen has it."""
    data = png_with_gamma(picture, gamma, srgb=srgb)
    np.testing.assert_array_equal(as_photo(data).pixels, picture)


def test_written_images_read_back(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.png", picture)
    write_image(tmp_path / "b.jpg", picture)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, picture)
    assert close(read_photo(tmp_path / "b.jpg"), picture)
    assert encode_image(picture, "jpeg") == (tmp_path / "b.jpg").read_bytes()
    with pytest.raises(ValueError, match=r"Known suffixes: \.png"):
        write_image(tmp_path / "c.gif", picture)
