"""Batches of faces as compact arrays, and back."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, UInt8
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth, PhotoFeatures
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import linear_from_srgb, srgb_from_linear
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap

Records = Mapping[str, np.ndarray]
"""Arrays by name; all have the same leading batch axes."""

_POINTS = {"landmarks68": 68, "landmarks478": 478, "aflw21": 21}
_BITS = ("visible68", "visible478", "visible200", "skin", "coverage")
_FEATURES = ("fine", "coarse", "last")
_COEFFICIENTS = ("identity", "expression", "gaze", "albedo")
_SHORT, _BESIDE = 32767, -32768
"""Scale of 16-bit normals, and the value beside the head."""


def records_of(batch: FaceBatch, *, maps: bool, pixel_maps: bool = False) -> dict[str, np.ndarray]:
    """Return a drawn batch as arrays.

    Colours become 8-bit sRGB, masks become bits, displacement becomes float16, normals become 16-bit x
    and y. Depth in the crop is left out. All landmarks of drawn faces have weight 1, so weights are
    left out too. Features become bfloat16.

    Args:
        batch: with truth.
        maps: keep albedo and displacement in UV.
        pixel_maps: keep normals and albedo in the crop.

    Raises:
        ValueError: the batch has no truth, or no maps where they are wanted.
    """
    truth = batch.truth
    if truth is None:
        raise ValueError("Only drawn faces, whose truth is known, can be stored in a bank.")
    face = truth.face
    records = {
        "photo": _bytes(batch.photo),
        "skin": _bits(batch.skin.flatten(-2) >= 0.5),
        "person": batch.person,
        "visible68": _bits(truth.visible68),
        "visible478": _bits(truth.visible478),
        "visible200": _bits(truth.visible200),
        "surface200": truth.surface200,
        "focal_pixels": face.camera.focal_pixels,
        "principal_point": face.camera.principal_point,
        "world_to_camera": face.camera.world_to_camera,
        "light": face.light.coefficients,
        **{name: getattr(batch, name) for name in _POINTS},
        **{f"coefficients.{name}": getattr(face.coefficients, name) for name in _COEFFICIENTS},
    }
    if maps:
        if face.albedo_map is None or face.displacement_map is None:
            raise ValueError("These faces have no maps of albedo and displacement.")
        records["albedo_map"] = _bytes(face.albedo_map.values)
        records["displacement_map"] = face.displacement_map.values.half()
        records["coverage"] = _bits(face.albedo_map.coverage.flatten(-2) > 0.5)
    if pixel_maps:
        if truth.normals is None or truth.albedo is None:
            raise ValueError("These faces have no normals and albedo of their pixels.")
        records["normals"] = _short_normals(truth.normals)
        records["albedo_image"] = _bytes(truth.albedo)
    if batch.features is not None:
        for name in _FEATURES:
            values = getattr(batch.features, name).to(torch.bfloat16)
            records[f"features.{name}"] = values.view(torch.int16)
    return {
        name: np.ascontiguousarray(value.cpu().numpy() if isinstance(value, Tensor) else value)
        for name, value in records.items()
    }


def batch_of(records: Records) -> FaceBatch:
    """Return arrays as a batch again; what is not stored is None."""
    read = {
        name: torch.from_numpy(records[name])
        for name in records
        if name != "photo" and name not in _BITS
    }
    photo = _linear(records["photo"])
    size = photo.shape[-1]
    albedo_map = displacement_map = None
    if "albedo_map" in records:
        albedo = _linear(records["albedo_map"])
        texels = albedo.shape[-1]
        coverage = _flags(records["coverage"], texels**2).unflatten(-1, (texels, texels)).float()
        albedo_map = UVMap(albedo, coverage)
        displacement_map = UVMap(read["displacement_map"].float(), coverage)
    face = ExplainedFace(
        FaceCoefficients(**{name: read[f"coefficients.{name}"] for name in _COEFFICIENTS}),
        PerspectiveCamera(
            read["focal_pixels"], read["principal_point"], read["world_to_camera"], (size, size)
        ),
        SphericalHarmonicsLight(read["light"]),
        albedo_map=albedo_map,
        displacement_map=displacement_map,
    )
    truth = FaceTruth(
        face,
        normals=_normals(read["normals"]) if "normals" in records else None,
        albedo=_linear(records["albedo_image"]) if "albedo_image" in records else None,
        visible68=_flags(records["visible68"], _POINTS["landmarks68"]),
        visible478=_flags(records["visible478"], _POINTS["landmarks478"]),
        surface200=read["surface200"],
        visible200=_flags(records["visible200"], 200),
    )
    points: dict[str, Tensor] = {}
    for name in _POINTS:
        points[name] = read[name]
        points[f"{name}_weight"] = torch.ones_like(read[name][..., 0])
    skin = _flags(records["skin"], size**2).unflatten(-1, (size, size)).float()
    features = None
    if "features.last" in records:
        features = PhotoFeatures(
            **{name: read[f"features.{name}"].view(torch.bfloat16) for name in _FEATURES}
        )
    return FaceBatch(
        photo=photo, skin=skin, person=read["person"], truth=truth, features=features, **points
    )


def _bytes(image: Float[Tensor, "*batch H W"]) -> UInt8[Tensor, "*batch H W"]:
    return srgb_from_linear(image.clamp(0, 1)).mul(255).round().to(torch.uint8)


def _linear(pixels: UInt8[np.ndarray, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
    return torch.from_numpy(_light_of_byte().take(pixels))


def _short_normals(normals: Float[Tensor, "*batch 3 H W"]) -> Int16[Tensor, "*batch 2 H W"]:
    """Return x and y of unit normals that face the camera; `_BESIDE` where the normal is 0."""
    short = (normals[..., :2, :, :] * _SHORT).round().to(torch.int16)
    return short.masked_fill((normals == 0).all(-3, keepdim=True), _BESIDE)


def _normals(short: Int16[Tensor, "*batch 2 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    xy = short.float() / _SHORT
    z = (1 - xy.square().sum(-3, keepdim=True)).clamp(min=0).sqrt()
    return torch.cat([xy, z], -3).masked_fill((short == _BESIDE).all(-3, keepdim=True), 0)


@cache
def _light_of_byte() -> Float[np.ndarray, "256"]:
    return linear_from_srgb(torch.arange(256) / 255).numpy()


def _bits(flags: Bool[Tensor, "*batch K"]) -> UInt8[np.ndarray, "*batch k"]:
    return np.packbits(flags.cpu().numpy(), axis=-1)


def _flags(bits: UInt8[np.ndarray, "*batch k"], count: int) -> Bool[Tensor, "*batch K"]:
    return torch.from_numpy(np.unpackbits(bits, axis=-1, count=count)).bool()
