"""Face detection in photos of any size: YuNet on reduced, enlarged, rotated or padded copies."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.perception.observation import FaceDetection
from lifemask.perception.onnx_runtime import Network, OnnxNetwork, Runtime
from lifemask.perception.regions import crop_photo, region_side, square_regions, to_photo
from lifemask.perception.weights import load_network
from lifemask.perception.yunet import Candidates, YuNet, decode

SMALL_FACE = 96.0
"""Pixels: if all faces in the reduced copy are smaller, a copy twice as large is searched too."""

CONFIDENT = 0.93
"""If no face has this score, the photo is rotated too. Faces on their side score less, faces upside
down up to 0.906; six of seven upright faces score more."""

ROTATION_MARGIN = 0.02
"""A rotated photo is used only if its score is higher by this. The upright rotation scores at least
0.03 more than the others."""

WEAK, WEAK_TURNED = 0.15, 0.3
"""Lowest scores of candidates in the upright and in the rotated photo."""

LOOK_SIZE, LOOK_FACE = 192, 110
"""Sides, in pixels, of an enlarged copy and of the candidate's box in it. Faces that score 0.2 in the
whole photo score over 0.8 there."""

LOOK_DIRECTIONS = 8
"""Number of rotations of enlarged copies."""


@dataclass(frozen=True)
class Search:
    """What the detector found in a photo."""

    faces: list[FaceDetection]
    """Detections with a high score, largest first; only what lies in the photo counts."""
    candidates: list[FaceDetection]
    """All further detections, also of low scores and at the same places; see `elsewhere`."""


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
            network = OnnxNetwork(network, ("perception/yunet",), (1, 3, 64, 96), free_axes=(2, 3))
        return cls(network, torch.device(device))

    def detect(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        long_side: int = 640,
        threshold: float = 0.6,
    ) -> list[FaceDetection]:
        """Return the faces of `search`, largest first; empty if there are none."""
        return self.search(pixels, long_side=long_side, threshold=threshold).faces

    @torch.no_grad()
    def search(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        long_side: int = 640,
        threshold: float = 0.6,
    ) -> Search:
        """Return the faces of an upright sRGB photo, and what may be further faces.

        It searches copies reduced to `long_side` and to half of that (for faces that fill the
        photo), and a copy twice as large if faces are small or missing; for missing ones, small
        photos are enlarged. If no score is high, it also searches the photo rotated by quarter
        turns and keeps the best rotation. If it finds no face, it extends the edges by half, for
        heads that fill the photo.

        Args:
            pixels: sRGB, 0 to 255.
            long_side: longer side of the reduced copy, pixels.
            threshold: lowest score of a face, 0 to 1; candidates have less.
        """
        half = long_side // 2
        faces: list[FaceDetection] = []
        seen: list[FaceDetection] = []

        def look(
            side: int, turns: int, margin: float, largest_scale: float = 1.0
        ) -> list[FaceDetection]:
            lowest = min(WEAK_TURNED if turns else WEAK, threshold)
            found = self._search(pixels, side, lowest, turns, margin, largest_scale)
            seen.extend(found)
            return [face for face in found if face.score > threshold]

        for margin in (0.0, 0.5):
            faces = look(half, 0, margin) + look(long_side, 0, margin)
            if _best_score(faces) < CONFIDENT:
                turned = {t: look(half, t, margin) for t in (1, 2, 3)}
                turns = max(turned, key=lambda t: _best_score(turned[t]))
                if _best_score(turned[turns]) > _best_score(faces) + ROTATION_MARGIN:
                    faces = turned[turns] + look(long_side, turns, margin)
            # A photo is enlarged for it only where nothing was found.
            has_more = max(pixels.shape[:2]) > long_side or not faces
            if margin == 0.0 and has_more and not _has_large(faces, pixels, long_side):
                faces = faces + look(2 * long_side, 0, 0.0, 2.0)
            if faces:
                break
        faces = with_others(suppress_overlaps(faces), [], pixels.shape[:2])
        return Search(faces, [c for c in seen if all(c is not face for face in faces)])

    @torch.no_grad()
    def look_closer(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        box_xyxy: Float[Tensor, "4"],
        *,
        zoom: float = 1.0,
    ) -> list[FaceDetection]:
        """Return what enlarged copies of a box show in its middle, highest score first.

        The copies are rotated to all directions; each gives one face, whose box is a square and
        whose roll is the rotation.

        Args:
            pixels: sRGB, 0 to 255.
            box_xyxy: where to look, photo pixels.
            zoom: magnification; over 1 for faces that are smaller than the box.
        """
        low, high = box_xyxy[:2], box_xyxy[2:]
        side = (high - low).amax().clamp_min(1.0) * LOOK_SIZE / LOOK_FACE / zoom
        angles = torch.arange(LOOK_DIRECTIONS) * (2.0 * math.pi / LOOK_DIRECTIONS)
        regions = square_regions(
            (low + high).expand(len(angles), 2) / 2, side.expand(len(angles)), angles
        )
        crops = crop_photo(pixels, regions.to(self.device), LOOK_SIZE, border="border")
        faces = [
            _middle_face(
                decode(self.network(crop[None].contiguous(memory_format=torch.channels_last))),
                region,
                float(angle),
            )
            for crop, region, angle in zip(crops, regions, angles, strict=True)
        ]
        return sorted(faces, key=lambda face: -face.score)

    def _search(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        long_side: int,
        threshold: float,
        turns: int,
        margin: float,
        largest_scale: float,
    ) -> list[FaceDetection]:
        """Search a copy of the photo after counter-clockwise quarter turns, with extended edges."""
        height, width = pixels.shape[:2]
        readable = np.require(pixels, requirements=("C", "W"))
        image = torch.from_numpy(readable).to(self.device).permute(2, 0, 1)[None]
        scale = min(largest_scale, long_side / (max(height, width) * (1.0 + 2.0 * margin)))
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


def _middle_face(
    candidates: Candidates, region: Float[Tensor, "2 3"], roll_radians: float
) -> FaceDetection:
    """Return the best candidate near the middle of an enlarged copy, in photo pixels."""
    boxes = candidates.boxes[0].cpu()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (middles - LOOK_SIZE / 2).abs().amax(-1) < LOOK_FACE / 2
    best = int(torch.where(near, candidates.scores[0].cpu(), -1.0).argmax())
    middle = to_photo(region, middles[best, None] / LOOK_SIZE)[0]
    half = (boxes[best, 2:] - boxes[best, :2]).amax() / LOOK_SIZE * region_side(region) / 2
    points = to_photo(region, candidates.keypoints[0, best].cpu() / LOOK_SIZE)
    score = float(candidates.scores[0, best]) * float(near[best])
    return FaceDetection(torch.cat([middle - half, middle + half]), score, points, roll_radians)


def suppress_overlaps(faces: list[FaceDetection], *, overlap: float = 0.3) -> list[FaceDetection]:
    """Keep the best face of each group whose boxes' intersection over union exceeds `overlap`."""
    kept: list[FaceDetection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_intersection_over_union(face.box_xyxy, k.box_xyxy) <= overlap for k in kept):
            kept.append(face)
    return kept


def elsewhere(candidates: list[FaceDetection], faces: list[FaceDetection]) -> list[FaceDetection]:
    """Return the best candidate of each place where no face is, highest score first."""
    free = [c for c in candidates if not any(_same_place(c, face) for face in faces)]
    return suppress_overlaps(free, overlap=0.1)


def with_others(
    faces: list[FaceDetection], others: list[FaceDetection], image_size: tuple[int, int]
) -> list[FaceDetection]:
    """Return faces and those others that lie on none of them and not on each other, largest first.

    Only the part of a box that lies in the photo counts, so a face that the border cuts does not come
    before a whole one of about its size.

    Args:
        faces: all of them stay.
        others: further faces; of those at one place, the one with the highest score stays.
        image_size: (height, width) of the photo.
    """
    kept = list(faces)
    for other in sorted(others, key=lambda face: -face.score):
        if not any(_same_place(other, face) for face in kept):
            kept.append(other)
    height, width = image_size
    limit = torch.tensor([width, height, width, height])

    def area(face: FaceDetection) -> float:
        return _box_area(torch.minimum(face.box_xyxy.clamp_min(0), limit))

    return sorted(kept, key=lambda face: -area(face))


def roll_radians(keypoints5: Float[Tensor, "5 2"]) -> float:
    """Return the roll of the head: 0 is upright, positive is clockwise in the image."""
    x, y = (keypoints5[1] - keypoints5[0]).tolist()
    return math.atan2(y, x)


def _same_place(candidate: FaceDetection, face: FaceDetection) -> bool:
    """Return whether a candidate may be the face itself or a part of it."""
    middle = (candidate.box_xyxy[:2] + candidate.box_xyxy[2:]) / 2
    inside = bool(((middle > face.box_xyxy[:2]) & (middle < face.box_xyxy[2:])).all())
    return inside or _intersection_over_union(candidate.box_xyxy, face.box_xyxy) > 0.1


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
