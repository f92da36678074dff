"""Face detection in photos of any size: YuNet on reduced, enlarged, rotated or padded copies."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.perception.observation import FaceDetection
from lifemask.perception.onnx_runtime import Network, OnnxNetwork, Runtime
from lifemask.perception.weights import load_network
from lifemask.perception.yunet import Candidates, YuNet, decode

SMALL_FACE = 32.0
"""Pixels: if all faces in the reduced copy are smaller, a copy twice as large is searched too."""

CONFIDENT = 0.93
"""If no face has this score, the photo is rotated too. Faces on their side score less, faces upside
down up to 0.906; six of seven upright faces score more."""

ROTATION_MARGIN = 0.02
"""A rotated photo is used only if its score is higher by this. The upright rotation scores at least
0.03 more than the others."""


class FaceDetector:
    """Finds faces and their five points."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network = network
        self.device = device

    @classmethod
    def from_pretrained(
        cls, device: str | torch.device = "cpu", *, runtime: Runtime = "torch"
    ) -> "FaceDetector":
        """Load the weights that ship with the package."""
        network: Network = load_network(YuNet(), "yunet", device=device)
        if runtime == "onnxruntime":
            network = OnnxNetwork(network, ("yunet",), (1, 3, 64, 96), free_axes=(2, 3))
        return cls(network, torch.device(device))

    @torch.no_grad()
    def detect(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        long_side: int = 640,
        threshold: float = 0.6,
    ) -> list[FaceDetection]:
        """Return the faces of an upright sRGB photo, largest first; empty if there are none.

        It searches copies reduced to `long_side` and to half of that (for faces that fill the
        photo), and a copy twice as large if faces are small or missing. If no score is high, it
        also searches the photo rotated by quarter turns and keeps the best rotation. If it finds no
        face, it extends the edges by half, for heads that fill the photo.

        Args:
            pixels: sRGB, 0 to 255.
            long_side: longer side of the reduced copy, pixels.
            threshold: lowest score of a face, 0 to 1.
        """
        half = long_side // 2
        for margin in (0.0, 0.5):
            found = self._search(pixels, half, threshold, 0, margin)
            found += self._search(pixels, long_side, threshold, 0, margin)
            if _best_score(found) < CONFIDENT:
                turned = {t: self._search(pixels, half, threshold, t, margin) for t in (1, 2, 3)}
                turns = max(turned, key=lambda t: _best_score(turned[t]))
                if _best_score(turned[turns]) > _best_score(found) + ROTATION_MARGIN:
                    found = turned[turns] + self._search(
                        pixels, long_side, threshold, turns, margin
                    )
            is_larger = max(pixels.shape[:2]) > long_side
            if margin == 0.0 and is_larger and not _has_large(found, pixels, long_side):
                found += self._search(pixels, 2 * long_side, threshold, 0, 0.0)
            if found:
                faces = suppress_overlaps(found)
                return sorted(faces, key=lambda face: -_box_area(face.box_xyxy))
        return []

    def _search(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        long_side: int,
        threshold: float,
        turns: int,
        margin: float,
    ) -> list[FaceDetection]:
        """Search the photo after counter-clockwise quarter turns, with extended edges."""
        height, width = pixels.shape[:2]
        readable = np.require(pixels, requirements=("C", "W"))
        image = torch.from_numpy(readable).to(self.device).permute(2, 0, 1)[None]
        scale = min(1.0, long_side / (max(height, width) * (1.0 + 2.0 * margin)))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if size != (height, width):
            image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
        image = image.float() / 255.0
        pad_y, pad_x = round(size[0] * margin), round(size[1] * margin)
        image = F.pad(image, (pad_x, pad_x, pad_y, pad_y), mode="replicate")
        image = image.rot90(turns, dims=(2, 3))
        rows, columns = image.shape[2:]
        image = F.pad(image, (0, -columns % 32, 0, -rows % 32))
        candidates = decode(self.network(image.contiguous(memory_format=torch.channels_last)))

        def back(points: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
            x, y = points.unbind(-1)
            # The original of (x, y) after 0, 1, 2, 3 counter-clockwise quarter turns of the image.
            x, y = ((x, y), (rows - y, x), (columns - x, rows - y), (y, columns - x))[turns]
            x, y = x - pad_x, y - pad_y
            return torch.stack([x * (width / size[1]), y * (height / size[0])], dim=-1)

        return _kept(candidates, threshold, back)


def _kept(
    candidates: Candidates, threshold: float, back: Callable[[Tensor], Tensor]
) -> list[FaceDetection]:
    keep = candidates.scores[0] > threshold
    corners = back(candidates.boxes[0, keep].unflatten(-1, (2, 2)))
    boxes = torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1).cpu()
    points = back(candidates.keypoints[0, keep]).cpu()
    scores = candidates.scores[0, keep].tolist()
    return [FaceDetection(*face) for face in zip(boxes, scores, points, strict=True)]


def suppress_overlaps(faces: list[FaceDetection], *, overlap: float = 0.3) -> list[FaceDetection]:
    """Keep the best face of each group whose boxes' intersection over union exceeds `overlap`."""
    kept: list[FaceDetection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_intersection_over_union(face.box_xyxy, k.box_xyxy) <= overlap for k in kept):
            kept.append(face)
    return kept


def roll_radians(keypoints5: Float[Tensor, "5 2"]) -> float:
    """Return the roll of the head: 0 is upright, positive is clockwise in the image."""
    x, y = (keypoints5[1] - keypoints5[0]).tolist()
    return math.atan2(y, x)


def _best_score(faces: list[FaceDetection]) -> float:
    return max((face.score for face in faces), default=0.0)


def _has_large(faces: list[FaceDetection], pixels: np.ndarray, long_side: int) -> bool:
    scale = min(1.0, long_side / max(pixels.shape[:2]))
    return any(math.sqrt(_box_area(face.box_xyxy)) * scale >= SMALL_FACE for face in faces)


def _box_area(box: Float[Tensor, "4"]) -> float:
    width, height = (box[2:] - box[:2]).clamp_min(0.0).tolist()
    return width * height


def _intersection_over_union(a: Float[Tensor, "4"], b: Float[Tensor, "4"]) -> float:
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    shared = _box_area(torch.cat([low, high]))
    return shared / max(_box_area(a) + _box_area(b) - shared, 1e-9)
