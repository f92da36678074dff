"""Record the outputs of the original runtimes on one small face, for the agreement tests.

    pip install ai-edge-litert onnxruntime dlib-bin      # not needed by lifemask or its tests
    python tools/record_perception_reference.py

Runs the original models in LiteRT, ONNX Runtime and dlib on a face of 128 pixels and writes
`tests/perception/reference.safetensors`. The face is repeated to the input size of each model,
because resampling can differ between machines.
"""

import tempfile
from pathlib import Path

import dlib
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from convert_perception import ASSET_LIST, fetch
from PIL import Image
from safetensors.numpy import save_file

from lifemask.perception.blendshapes import INPUT_POINTS
from lifemask.perception.weights import cache_directory

REPOSITORY = Path(__file__).resolve().parents[1]
PHOTO = REPOSITORY / "src/lifemask/assets/samples/portrait_1.jpg"
OUTPUT = REPOSITORY / "tests/perception/reference.safetensors"


def main() -> None:
    """Run each original model once and store a part of its output."""
    sources = {
        asset.name: fetch(asset.source, cache_directory() / "sources") for asset in ASSET_LIST
    }
    face = np.asarray(_face())
    large = face.repeat(2, 0).repeat(2, 1)[None].astype(np.float32) / 255.0
    points, presence, _ = _lite(sources["face_mesh"], large)
    points = points.reshape(478, 3)
    (scores,) = _lite(sources["blendshapes"], points[None, list(INPUT_POINTS), :2])
    (logits,) = _lite(sources["segmentation"], large * 2.0 - 1.0)
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    save_file(
        {
            "face": face,
            "points": points,
            "presence_logit": presence.reshape(1),
            "blendshapes": scores.reshape(52)[1:],
            "segmentation": np.ascontiguousarray(probabilities[0, 4::8, 4::8].transpose(2, 0, 1)),
            "embedding": _dlib(sources["identity"], face),
            "sface": _onnx(sources["sface"], "data", face[8:120, 8:120])["fc1"][0],
            **_yunet(sources["yunet"], face),
        },
        OUTPUT,
    )
    print(f"wrote {OUTPUT} ({OUTPUT.stat().st_size / 1e3:.0f} kB)")


def _face() -> Image.Image:
    photo = Image.open(PHOTO).convert("RGB")
    side = min(photo.size)
    left = (photo.width - side) // 2
    return photo.crop((left, 0, left + side, side)).resize((128, 128), Image.Resampling.BOX)


def _lite(model: bytes, values: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def _onnx(model: bytes, name: str, image: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options)
    names = [output.name for output in session.get_outputs()]
    values = image.transpose(2, 0, 1)[None].astype(np.float32)
    return dict(zip(names, session.run(None, {name: values}), strict=True))


def _yunet(model: bytes, face: np.ndarray) -> dict[str, np.ndarray]:
    """Return scores of all cells, and box and points of the best cell, relative to that cell."""
    bgr = face.repeat(5, 0).repeat(5, 1)[..., ::-1]
    output = _onnx(model, "input", bgr)
    strides = (8, 16, 32)
    scores = [np.sqrt(output[f"cls_{s}"] * output[f"obj_{s}"])[0, :, 0] for s in strides]
    level = int(np.argmax([s.max() for s in scores]))
    best = int(scores[level].argmax())
    stride = strides[level]
    return {
        "yunet_level_and_cell": np.array([level, best], np.int64),
        "yunet_score": scores[level][best : best + 1],
        "yunet_box": output[f"bbox_{stride}"][0, best],
        "yunet_points": output[f"kps_{stride}"][0, best],
    }


def _dlib(model: bytes, face: np.ndarray) -> np.ndarray:
    chip = np.zeros((150, 150, 3), np.uint8)
    chip[11:139, 11:139] = face
    with tempfile.NamedTemporaryFile(suffix=".dat") as file:
        file.write(model)
        file.flush()
        network = dlib.face_recognition_model_v1(file.name)
        return np.array(network.compute_face_descriptor(chip), np.float32)


if __name__ == "__main__":
    main()
