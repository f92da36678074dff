"""Reading photos of any common format, upright and in 8-bit sRGB; other files raise clear errors.

Transparent parts become white. The first picture of an animation or a multi-page file is read.
Grey, CMYK, palette and 16-bit files and embedded colour profiles are converted to sRGB.
"""

import io
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from lifemask.io.files import printable, write_bytes

logger = logging.getLogger(__name__)

MEGAPIXELS_ALLOWED = 100.0
"""Photos of this many megapixels or more are refused before they are decoded."""
SMALLEST_SIDE = 16
"""Photos with a shorter side, in pixels, are refused: they are too small for a face."""

# Formats that `Image.open` may try. Some of Pillow's other readers start external programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".heic", ".heif", ".hif"),
)
"""Endings of photos, lower case."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_FILM_DIAGONAL_MM = math.hypot(36, 24)
_SRGB_GAMMA, _SAME_GAMMA = 1 / 2.2, 0.01
"""The gamma that PNG files state for sRGB, and how far a gamma may differ from it."""
_OVERSHOOT = 1e-3
"""How far floating-point pixels may be outside [0, 1]; resizing makes such values."""
_END_OF_JPEG = b"\xff\xd9"
_MM_PER_RESOLUTION_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@runtime_checkable
class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102


Layout = Literal["HWC", "CHW"]
"""Order of the axes of pixels: height, width and colours."""
_Result = TypeVar("_Result")


class PhotoError(ValueError):
    """A photo could not be read; the message says what was found, what is allowed and what to do."""


@dataclass(frozen=True)
class Photo:
    """An upright photo in 8-bit sRGB."""

    pixels: UInt8[np.ndarray, "H W 3"]
    """sRGB, 0..255, rows from the top; a copy of the pixels that it is made of."""
    focal_35mm: float | None = None
    """Focal length in mm on a 36 x 24 mm film of the same diagonal (EXIF), if known."""
    name: str = "photo"
    """Name of the file without folder and suffix."""

    def __post_init__(self) -> None:
        # The caller may use its array again, for example for the next frame of a camera.
        object.__setattr__(self, "pixels", np.array(self.pixels, order="C"))

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def focal_pixels(self) -> float | None:
        """Focal length in pixels, if known."""
        if self.focal_35mm is None:
            return None
        return self.focal_35mm / _FILM_DIAGONAL_MM * math.hypot(*self.image_size)


def read_photo(
    path: str | os.PathLike[str],
    *,
    megapixels_allowed: float = MEGAPIXELS_ALLOWED,
    longest_side: int | None = None,
) -> Photo:
    """Read a photo from a file.

    Args:
        path: a file of any common image format; HEIC needs the extra `heif`.
        megapixels_allowed: larger photos are refused before decoding. Pillow itself refuses more
            than 178.
        longest_side: if given, a larger photo is reduced to this many pixels. JPEG files are
            then decoded at a fraction of their size, which is several times faster.

    Raises:
        PhotoError: the file is missing, not a photo, damaged, too small or too large.
    """
    try:
        path = Path(path)
        with open(path, "rb") as file:
            return decode_photo(
                file,
                name=printable(path.stem),
                label=repr(str(path)),
                megapixels_allowed=megapixels_allowed,
                longest_side=longest_side,
            )
    except FileNotFoundError as error:
        raise PhotoError(f"There is no file {str(path)!r}. Check the name.") from error
    except IsADirectoryError as error:
        raise PhotoError(
            f"{str(path)!r} is a folder. Name the photos in it, for example {str(Path(path) / '*.jpg')!r}."
        ) from error
    except OSError as error:
        raise PhotoError(
            f"Cannot read {str(path)!r}: {error.strerror or error}. Check its permissions."
        ) from error
    except PhotoError:
        raise
    except (TypeError, ValueError) as error:
        raise PhotoError(f"{path!r} is not the name of a file ({error}).") from error


def decode_photo(
    file: io.BytesIO | io.BufferedReader,
    *,
    name: str = "photo",
    label: str | None = None,
    megapixels_allowed: float = MEGAPIXELS_ALLOWED,
    longest_side: int | None = None,
) -> Photo:
    """Read a photo from an open binary file. `label` names it in error messages; see `read_photo`.

    A JPEG file that lacks only its two end bytes is read: its picture is whole.

    Raises:
        PhotoError: the data is not a photo, damaged, too small or too large.
    """
    label = label or repr(name)

    def decode(file: io.BytesIO | io.BufferedReader) -> tuple[Image.Image, float | None]:
        image = _open(file, label)
        _check_size(image, label, megapixels_allowed)
        if longest_side is not None:
            image.draft("RGB", (longest_side, longest_side))
        return _upright_srgb(image, label)

    try:
        image, focal = _with_photo_errors(lambda: decode(file), label)
    except _DamagedPhotoError:
        ended = _without_lost_end(file)
        if ended is None:
            raise
        image, focal = _with_photo_errors(lambda: decode(ended), label)
    if longest_side is not None:
        image.thumbnail((longest_side, longest_side), reducing_gap=2.0)
    return Photo(np.asarray(image), focal, name)


def as_photo(source: object, *, layout: Layout | None = None) -> Photo:
    """Return a photo of what a caller has; pixels are copied.

    Args:
        source: a Photo, a path, the bytes of a file, an open binary file, a Pillow image, or pixels
            in an array or a tensor: sRGB of three channels, uint8 or floating point in [0, 1].
        layout: order of the axes of pixels; arrays are "HWC" by default. For tensors, it must be
            given, because both orders are common.

    Raises:
        PhotoError: see `read_photo`; the pixels have another shape, type or range; or the source is
            something else.
    """
    match source:
        case Photo():
            _check_pixels(source.pixels, "the photo")
            return source
        case np.ndarray():
            return Photo(_pixels_of_array(source, layout or "HWC"))
        case Image.Image():
            label = "the image"
            _check_size(source, label, MEGAPIXELS_ALLOWED)
            upright, focal = _with_photo_errors(lambda: _upright_srgb(source, label), label)
            return Photo(np.asarray(upright), focal)
        case bytes() | bytearray() | memoryview():
            return decode_photo(io.BytesIO(source), label="the photo in memory")
        case str() | os.PathLike():
            return read_photo(source)
        case _ if _is_tensor(source):
            return _photo_of_tensor(source, layout)
        case BinaryFile():
            return _photo_of_file(source)
        case _:
            raise PhotoError(
                f"Got {type(source).__name__}, which is no photo. Give a path, the bytes of a file, "
                "an open binary file, a PIL image, or sRGB pixels; several photos one by one."
            )


def encode_image(
    pixels: UInt8[np.ndarray, "H W *channels"],
    format: Literal["png", "jpeg"],
    *,
    quality: int = 92,
) -> bytes:
    """Return grey (H, W), RGB or RGBA pixels as the bytes of a PNG or JPEG file.

    `quality` is that of JPEG, 1..95; from 90 on, colours are not subsampled. Equal pixels give equal
    bytes.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if format == "png":
        image.save(buffer, "PNG", compress_level=6)
    else:
        subsampling = "4:4:4" if quality >= 90 else "4:2:0"
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def write_image(
    path: str | os.PathLike[str],
    pixels: UInt8[np.ndarray, "H W *channels"],
    *,
    quality: int = 92,
) -> None:
    """Write grey (H, W), RGB or RGBA pixels to a .png or .jpg file, complete or not at all.

    Raises:
        ValueError: the suffix is none of these.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".png":
            data = encode_image(pixels, "png")
        case ".jpg" | ".jpeg":
            data = encode_image(pixels, "jpeg", quality=quality)
        case _:
            raise ValueError(f"Cannot write {path.name!r}. Known suffixes: .png, .jpg, .jpeg.")
    write_bytes(path, data)


def image_type(data: bytes) -> Literal["image/png", "image/jpeg"]:
    """Return the media type of an image file.

    Raises:
        ValueError: the file is neither PNG nor JPEG.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    raise ValueError(f"Images must be PNG or JPEG files; this one starts with {data[:8]!r}.")


class _DamagedPhotoError(PhotoError):
    """A decoder failed."""


def _with_photo_errors(read: Callable[[], _Result], label: str) -> _Result:
    """Return what `read` returns; any error of a decoder becomes a `PhotoError`."""
    with warnings.catch_warnings():
        # Pillow warns only above the limit that is checked, and about broken metadata, which do not
        # matter here.
        warnings.simplefilter("ignore")
        try:
            return read()
        except PhotoError:
            raise
        except Exception as error:  # decoders of broken data raise errors of any type
            raise _DamagedPhotoError(
                f"{label} is damaged ({error}). Copy it again from its source or save it again in "
                "an image editor."
            ) from error


def _upright_srgb(image: Image.Image, label: str) -> tuple[Image.Image, float | None]:
    """Return the decoded image as upright 8-bit sRGB, and its focal length."""
    image.load()
    focal = _focal_35mm(image)
    upright = ImageOps.exif_transpose(image)
    return _to_srgb(upright, label), focal


def _without_lost_end(file: io.BytesIO | io.BufferedReader) -> io.BytesIO | None:
    """Return a JPEG file with the two bytes at its end if these are all that it lacks, or None.

    If more is lost, decoders fill the rest of the picture with what follows in the file. So the
    picture is whole if it does not depend on that.
    """
    try:
        file.seek(0)
        data = file.read().removesuffix(_END_OF_JPEG[:1])
        if not data.startswith(b"\xff\xd8\xff") or data.endswith(_END_OF_JPEG):
            return None
        one, other = (
            Image.open(io.BytesIO(data + filling * 64 + _END_OF_JPEG), formats=["JPEG"])
            for filling in (b"\x00", b"\x5a")
        )
        same = one.tobytes() == other.tobytes()
    except Exception:  # decoders of broken data raise errors of any type
        return None
    return io.BytesIO(data + _END_OF_JPEG) if same else None


def _pixels_of_array(
    values: Shaped[np.ndarray, "..."], layout: Layout
) -> UInt8[np.ndarray, "H W 3"]:
    """Return pixels of any type and layout that is allowed as 8-bit pixels."""
    channels = 0 if layout == "CHW" else -1
    if values.ndim != 3 or values.shape[channels] != 3:
        shape = "(3, height, width)" if layout == "CHW" else "(height, width, 3)"
        raise PhotoError(
            f"Got {values.dtype} of shape {values.shape}; uint8 or floating point of shape {shape} "
            "in sRGB is needed."
        )
    if layout == "CHW":
        values = values.transpose(1, 2, 0)
    if np.issubdtype(values.dtype, np.floating):
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
            raise PhotoError(
                f"Got floating-point pixels from {low:g} to {high:g}; sRGB in [0, 1] is needed. "
                "Divide values of 0 to 255 by 255."
            )
        values = np.round(values.clip(0, 1) * 255).astype(np.uint8)
    _check_pixels(values, "the array")
    return values


def _check_pixels(pixels: Shaped[np.ndarray, "..."], label: str) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PhotoError(
            f"Got {pixels.dtype} of shape {pixels.shape}; uint8 of shape (height, width, 3), or "
            "floating point in [0, 1], is needed, in sRGB."
        )
    _check_sides(pixels.shape[1], pixels.shape[0], label)


def _is_tensor(value: object) -> bool:
    # Without importing torch: who has a tensor has imported it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _photo_of_tensor(tensor: Any, layout: Layout | None) -> Photo:
    if layout is None:
        raise PhotoError(
            f"Got a tensor of shape {tuple(tensor.shape)}. Say the order of its axes: "
            "layout='CHW' or layout='HWC'."
        )
    values = tensor.detach().cpu()
    # Numpy has no bfloat16.
    return Photo(
        _pixels_of_array((values.float() if values.is_floating_point() else values).numpy(), layout)
    )


def _photo_of_file(file: Any) -> Photo:
    try:
        data = file.read()
    except Exception as error:  # any object may have a method of this name
        raise PhotoError(f"The open file cannot be read ({error}).") from error
    if not isinstance(data, bytes):
        raise PhotoError(
            f"The open file gave {type(data).__name__} instead of bytes. Open it with mode 'rb'."
        )
    name = getattr(file, "name", None)
    name = printable(Path(name).stem) if isinstance(name, str) and name else "photo"
    return decode_photo(io.BytesIO(data), name=name)


def _open(file: io.BytesIO | io.BufferedReader, label: str) -> Image.Image:
    start = file.read(32)
    file.seek(0)
    if not start:
        raise PhotoError(f"{label} is empty. Copy it again from its source.")
    Image.init()
    # AVIF and JPEG 2000 are missing from some builds of Pillow.
    formats: list[str] = [name for name in _FORMATS if name in Image.OPEN]
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        _register_heif(label)
        formats.append("HEIF")
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        raise PhotoError(
            f"{label} is not a photo: it starts with {start[:12]!r}. Allowed formats are "
            f"{', '.join(_FORMATS)} and HEIC; convert it to one of them."
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{label} is far too large: {error} Reduce it first.") from error
    except Exception as error:  # readers of broken headers raise errors of any type
        raise PhotoError(
            f"{label} is a damaged image file ({error}). Copy it again from its source."
        ) from error


def _register_heif(label: str) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise PhotoError(
            f"{label} is a HEIC photo, and the package that reads them is not installed. "
            "Run: pip install 'lifemask[heif]', or convert the photo to JPEG."
        ) from error
    register_heif_opener()


def _check_size(image: Image.Image, label: str, megapixels_allowed: float) -> None:
    width, height = image.size
    if width * height >= megapixels_allowed * 1e6:
        raise PhotoError(
            f"{label} has {width} x {height} pixels ({width * height / 1e6:.0f} megapixels); fewer "
            f"than {megapixels_allowed:g} megapixels are allowed. Reduce it first."
        )
    _check_sides(width, height, label)


def _check_sides(width: int, height: int, label: str) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise PhotoError(
            f"{label} has {width} x {height} pixels; at least {SMALLEST_SIDE} on each side are "
            "needed, and 100 or more across the face for a good likeness."
        )


def _to_srgb(image: Image.Image, label: str) -> Image.Image:
    """Return the image as 8-bit sRGB on white."""
    gamma = _gamma(image)
    if image.mode in ("I", "F"):
        image = _grey(_from_deep(image, label), gamma)
    elif image.mode.startswith("I;16"):
        image = _grey(np.asarray(image).astype(np.float64) / 65535, gamma)
    elif gamma is not None:
        image = _with_srgb_gamma(image, gamma)
    if image.mode in ("P", "PA") or image.has_transparency_data:
        image = _on_white(image)
    profile = image.info.get("icc_profile")
    if profile:
        image = _apply_profile(image, profile, label)
    return image.convert("RGB")


def _from_deep(image: Image.Image, label: str) -> Shaped[np.ndarray, "H W"]:
    """Return 32-bit integers that hold 16-bit values (some PNG and TIFF files) in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise PhotoError(
            f"{label} stores 32-bit {'floats' if image.mode == 'F' else 'integers'}; 8 or 16 bits "
            "are allowed. Save it as a 16-bit TIFF or an 8-bit PNG."
        )
    return values / 65535


def _grey(values: Shaped[np.ndarray, "H W"], gamma: float | None) -> Image.Image:
    if gamma is not None:
        values = _srgb_of_gamma(values, gamma)
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def _gamma(image: Image.Image) -> float | None:
    """Return the gamma of a PNG file (PNG specification, section 11.3.2.2), or None for sRGB.

    A colour profile and the chunk sRGB count more. A gamma outside [0.1, 10] is an error of the
    program that wrote the file.
    """
    gamma = _positive(image.info.get("gamma"))
    if gamma is None or "icc_profile" in image.info or "srgb" in image.info:
        return None
    known = 0.1 <= gamma <= 10 and abs(gamma - _SRGB_GAMMA) > _SAME_GAMMA
    return gamma if known else None


def _with_srgb_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Return an 8-bit image of another gamma with the curve of sRGB; its opacity stays."""
    if image.mode in ("P", "PA") or image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode != "L":
        image = image.convert("RGB")
    curve = np.round(_srgb_of_gamma(np.arange(256) / 255, gamma) * 255).astype(int).tolist()
    same = list(range(256))
    return image.point(curve * min(len(image.mode), 3) + same * (image.mode == "RGBA"))


def _srgb_of_gamma(values: Shaped[np.ndarray, "..."], gamma: float) -> Shaped[np.ndarray, "..."]:
    """Return values with the curve of sRGB (IEC 61966-2-1) instead of light ** gamma."""
    linear = values ** (1 / gamma)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _on_white(image: Image.Image) -> Image.Image:
    info = image.info
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image).convert("RGB")
    if "icc_profile" in info:
        flat.info["icc_profile"] = info["icc_profile"]
    return flat


def _apply_profile(image: Image.Image, profile: bytes, label: str) -> Image.Image:
    """Convert to sRGB with the embedded profile; a broken or unsuitable profile is ignored."""
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = {"L": "GRAY", "1": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}.get(image.mode, "RGB ")
        wanted: str = source.profile.xcolor_space
        if space.strip().casefold() != wanted.strip().casefold():
            if wanted.strip() != "RGB":
                raise ValueError(f"a {wanted} profile on a {image.mode} picture")
            image = image.convert("RGB")
        elif image.mode == "1":
            image = image.convert("L")
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, ValueError, OSError) as error:
        logger.warning("The colour profile of %s is ignored: %s", label, error)
        return image
    return image if converted is None else converted


def _focal_35mm(image: Image.Image) -> float | None:
    """Return the 35 mm equivalent focal length that EXIF states or implies.

    If the ratio of the sides differs from EXIF, the photo was cropped later, and the focal length
    does not apply to these pixels.
    """
    try:
        exif = image.getexif()
        details: Mapping[int, Any] = exif.get_ifd(ExifTags.IFD.Exif)
        size = (
            _positive(details.get(ExifTags.Base.ExifImageWidth)),
            _positive(details.get(ExifTags.Base.ExifImageHeight)),
        )
        if None not in size and not _same_shape(size, image.size):
            return None
        focal = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
        if focal is None:
            focal = _focal_from_sensor(details, size)
    except Exception as error:  # EXIF of manipulated files raises errors of any type
        logger.warning("The EXIF data of %s is ignored: %s", image.format, error)
        return None
    return focal if focal is not None and 5 <= focal <= 2000 else None


def _focal_from_sensor(
    details: Mapping[int, Any], size: tuple[float | None, float | None]
) -> float | None:
    millimetres = _positive(details.get(ExifTags.Base.FocalLength))
    density = _positive(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit = _MM_PER_RESOLUTION_UNIT.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    width, height = size
    if millimetres is None or density is None or unit is None or width is None or height is None:
        return None
    sensor_diagonal = math.hypot(width, height) / density * unit
    return millimetres / sensor_diagonal * _FILM_DIAGONAL_MM


def _positive(value: Any) -> float | None:
    """Return a finite positive number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _same_shape(stated: tuple[float | None, float | None], actual: tuple[int, int]) -> bool:
    long, short = max(stated[0] or 0, stated[1] or 0), min(stated[0] or 0, stated[1] or 0)
    return abs(short / long / (min(actual) / max(actual)) - 1) < 0.02
