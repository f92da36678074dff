"""One object for all measurements of faces in a photo."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.perception.blendshapes import BlendshapeNetwork, mirrored_expressions
from lifemask.perception.correspondences import keypoints_of
from lifemask.perception.detector import FaceDetector, elsewhere, roll_radians, with_others
from lifemask.perception.hypotheses import (
    ACCEPTED,
    CLEAR,
    SURE,
    Settled,
    best_hypothesis,
    certainty,
    doubt,
    is_lost,
)
from lifemask.perception.identity import CHIP_SIZE, IdentityNetwork, chip_region
from lifemask.perception.landmarks import DensePoints, FaceMesh, head_angles, jittered, turn
from lifemask.perception.observation import FaceDetection, FaceObservation
from lifemask.perception.onnx_runtime import Network, OnnxNetwork, Runtime
from lifemask.perception.overlaps import ObservedFace, apart, boxes_meet
from lifemask.perception.regions import crop_photo, mirrored, square_regions
from lifemask.perception.segmentation import CROP_SIZE, SegmentationNetwork
from lifemask.perception.weights import load_network

Quality = Literal["fast", "full"]
"""fast: three passes of the landmark network if they agree; full: ten more on jittered and mirrored
crops."""

FULL_PASSES = 10

DETECTION_SCALES = (1.3, 1.7)
"""Sides of the first regions, in units of the detector's box; the second is used if the first
fails."""

SETTLED = 0.005
"""The search ends if the points on a crop and its mirror image differ by less, in face units."""

PROFILE_TOLERANCE = 0.04
"""Disagreement, in units of the face, at which the presence of a profile has fallen to 1/e."""

CROP_SCALE = 1.6
"""Side of the first region in a photo that is cut to one face, in units of the photo."""

MOST_CANDIDATES = 4
"""Number of weak candidates that get a closer look, the best first."""

LOOKED_SCORE = 0.5
"""Lowest score of a candidate in an enlarged copy."""

TILTED_SCORE = 0.3
"""Lowest score of a candidate whose own box is searched for points, which takes longest."""

TILT = 0.6
"""Roll of a candidate in radians, to either side, that is tried besides an upright one."""

LOOKED_ROTATIONS = 2
"""Number of directions, the best first, in which the points of an unclear face are searched."""

WHOLE_PHOTO_FACE = 0.75
"""Side of the face in a photo that is cut to it, in units of the photo."""

SEGMENTATION_SCALE = 2.0
"""Side of the segmentation crop, in units of the points' extent; large enough to show the hair."""

SEGMENTATION_RISE = 0.045
"""Height of the crop's middle above that of the points, in units of its side."""


@dataclass(frozen=True)
class FacePerception:
    """Detector, landmarks, expression scores, segmentation and identity."""

    detector: FaceDetector
    mesh: FaceMesh
    blendshapes: BlendshapeNetwork
    segmentation: Network
    identity: Network
    device: torch.device

    @classmethod
    def from_pretrained(
        cls, device: str | torch.device = "cpu", *, runtime: Runtime = "torch"
    ) -> "FacePerception":
        """Load all networks from the weights that ship with the package.

        Args:
            device: torch's device for the networks.
            runtime: "torch", or "onnxruntime", which is faster on a CPU but has no gradients.
        """
        segmenter: Network = load_network(SegmentationNetwork(), "segmentation", device=device)
        embedder: Network = load_network(IdentityNetwork(), "identity", device=device)
        if runtime == "onnxruntime":
            size = CROP_SIZE
            segmenter = OnnxNetwork(segmenter, ("perception/segmentation",), (2, 3, size, size))
            size = CHIP_SIZE
            embedder = OnnxNetwork(embedder, ("perception/identity",), (2, 3, size, size))
        return cls(
            detector=FaceDetector.from_pretrained(device, runtime=runtime),
            mesh=FaceMesh.from_pretrained(device, runtime=runtime),
            blendshapes=load_network(BlendshapeNetwork(), "blendshapes", device=device),
            segmentation=segmenter,
            identity=embedder,
            device=torch.device(device),
        )

    @torch.no_grad()
    def detect(self, pixels: np.ndarray) -> list[FaceDetection]:
        """Return the faces of a photo, largest first; empty if there are none.

        Of a face that the photo's border cuts, only the part in the photo counts. Detections of low
        score are faces if their points convince; enlarged copies of the weakest show where to search
        for the points.

        Args:
            pixels: upright sRGB photo, (height, width, 3), uint8.

        Raises:
            ValueError: these are not the pixels of a photo.
        """
        check_photo(pixels)
        with single_thread(self.device):
            search = self.detector.search(pixels)
            faces = [f for f in search.faces if f.score > SURE or self._is_face(pixels, f)]
            candidates = elsewhere(search.candidates, faces)[:MOST_CANDIDATES]
            found = [self._confirmed(pixels, candidate) for candidate in candidates]
            return with_others(
                faces, [face for face in found if face is not None], pixels.shape[:2]
            )

    @torch.no_grad()
    def faces(
        self,
        pixels: np.ndarray,
        *,
        largest: bool = False,
        quality: Quality = "full",
        segment: bool | None = None,
        embed: bool | None = None,
    ) -> list[FaceObservation]:
        """Detect and observe the faces of a photo, largest first; empty if none convinces.

        Args:
            pixels: as in `detect`.
            largest: whether only the largest face is wanted.
            quality: as in `observe`.
            segment: as in `observe`.
            embed: as in `observe`.
        """

        def observed(seen: np.ndarray, detection: FaceDetection) -> FaceObservation | None:
            settled = self._settled(seen, detection)
            if is_lost(settled, detection.score):
                return None
            return self._observation(seen, settled, detection, quality, segment, embed)

        found: list[ObservedFace] = []
        for detection in self.detect(pixels):
            # Of further faces, only those matter that may hide a part of the largest.
            if largest and found and not boxes_meet(found[0].detection, detection):
                continue
            with single_thread(self.device):
                if (observation := observed(pixels, detection)) is not None:
                    found.append(ObservedFace(detection, observation))
        with single_thread(self.device):
            faces = apart(pixels, found, observed)
        return [face.observation for face in faces[: 1 if largest else None]]

    @torch.no_grad()
    def observe(
        self,
        pixels: np.ndarray,
        detection: FaceDetection,
        *,
        quality: Quality = "full",
        segment: bool | None = None,
        embed: bool | None = None,
    ) -> FaceObservation:
        """Return the measurements of one detected face, in photo pixels.

        Args:
            pixels: the photo in which the face was detected.
            detection: one of `detect`'s results.
            quality: decides the number of passes of the landmark network.
            segment: whether to segment; by default only in full quality.
            embed: whether to compute the identity embedding; by default only in full quality.
        """
        check_photo(pixels)
        with single_thread(self.device):
            settled = self._settled(pixels, detection)
            return self._observation(pixels, settled, detection, quality, segment, embed)

    @torch.no_grad()
    def observe_crop(
        self,
        pixels: np.ndarray,
        *,
        quality: Quality = "full",
        segment: bool | None = None,
        embed: bool | None = None,
    ) -> FaceObservation:
        """Return the measurements of the face that fills the photo; there is always a result.

        The search starts from the whole photo. If it does not converge, it starts again from the
        detector's box, and from what enlarged copies show in any direction. If none of these
        convinces, the presence is low.

        Args:
            pixels: a tight crop around one face.
            quality: as in `observe`.
            segment: as in `observe`.
            embed: as in `observe`.
        """
        check_photo(pixels)
        with single_thread(self.device):
            height, width = pixels.shape[:2]
            middle, side = torch.tensor([width / 2, height / 2]), torch.tensor(max(height, width))
            whole = square_regions(middle, side * CROP_SCALE, torch.zeros(()))
            settled = self._settle(pixels, [whole])
            if settled.disagreement > SETTLED:
                # Another face may be visible at the edge; the wanted face covers the middle.
                own = [d for d in self.detector.detect(pixels) if _covers(d.box_xyxy, middle)]
                starts = [detection_region(d, DETECTION_SCALES[0]) for d in own[:1]]
                again = [self._settle(pixels, [start]) for start in starts]
                settled = min([settled, *again], key=lambda s: s.disagreement)
            if doubt(settled) > CLEAR:
                reach = WHOLE_PHOTO_FACE / 2 * torch.tensor([width, height])
                settled = self._looked(pixels, torch.cat([middle - reach, middle + reach]), settled)
            return self._observation(pixels, settled, None, quality, segment, embed)

    def _is_face(self, pixels: UInt8[np.ndarray, "H W 3"], detection: FaceDetection) -> bool:
        return not is_lost(self._settled(pixels, detection), detection.score)

    def _confirmed(
        self, pixels: UInt8[np.ndarray, "H W 3"], candidate: FaceDetection
    ) -> FaceDetection | None:
        """Return the face that a closer look shows at a candidate, or None.

        Weak candidates often have a box that is too large, so a second look is closer still. Where
        no look shows a face, the points may still find one in the candidate's own box.
        """
        for zoom in (1.0, 1.6):
            face = self.detector.look_closer(pixels, candidate.box_xyxy, zoom=zoom)[0]
            if face.score > LOOKED_SCORE and self._convinces(pixels, face):
                return face
        for roll in (0.0, TILT, -TILT) if candidate.score > TILTED_SCORE else ():
            tilted = replace(candidate, roll_radians=roll)
            if self._convinces(pixels, tilted):
                return tilted
        return None

    def _convinces(self, pixels: UInt8[np.ndarray, "H W 3"], face: FaceDetection) -> bool:
        settled = self._settle(pixels, [detection_region(face, DETECTION_SCALES[0])])
        return doubt(settled) < ACCEPTED

    def _settled(self, pixels: UInt8[np.ndarray, "H W 3"], detection: FaceDetection) -> Settled:
        """Return the most convincing points of a detected face."""
        starts = [detection_region(detection, scale) for scale in DETECTION_SCALES]
        settled = self._settle(pixels, starts)
        if doubt(settled) <= CLEAR:
            return settled
        return self._looked(pixels, detection.box_xyxy, settled)

    def _looked(
        self, pixels: UInt8[np.ndarray, "H W 3"], box_xyxy: Float[Tensor, "4"], first: Settled
    ) -> Settled:
        """Return the first points, or more convincing ones that a closer look at the box gives."""
        middle = (box_xyxy[:2] + box_xyxy[2:]) / 2
        looks = self.detector.look_closer(pixels, box_xyxy)
        # A neighbour at the edge may convince more.
        looks = [face for face in looks if _covers(face.box_xyxy, middle)][:LOOKED_ROTATIONS]
        regions = [detection_region(face, DETECTION_SCALES[0]) for face in looks]
        others = [self._settle(pixels, [region]) for region in regions]
        return best_hypothesis(first, others, self.mesh.topology)

    def _settle(
        self, pixels: UInt8[np.ndarray, "H W 3"], starts: list[Float[Tensor, "2 3"]]
    ) -> Settled:
        """Follow the points from region to region until a crop and its mirror image agree.

        On profiles, the network's presence score selects the wrong region. The distance between
        the points on a crop and on its mirror image selects the right one.
        """
        best: Settled | None = None
        for start in starts:
            points = self.mesh.find(pixels, start[None].to(self.device)).points[0]
            for _ in range(2):
                region = self.mesh.region_around(points)
                pair = self.mesh.find(pixels, torch.stack([region, mirrored(region)]))
                points = pair.points.mean(0)
                disagreement = float(_relative_sigma(pair.points))
                if best is None or disagreement < best.disagreement:
                    best = Settled(pair, disagreement)
                if disagreement < SETTLED:
                    return best
        assert best is not None, "No region to start from."
        return best

    def _observation(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        settled: Settled,
        detection: FaceDetection | None,
        quality: Quality,
        segment: bool | None,
        embed: bool | None,
    ) -> FaceObservation:
        dense = settled.dense
        if quality == "full":
            region = self.mesh.region_around(dense.points.mean(0))
            dense = self.mesh.find(pixels, jittered(region, FULL_PASSES))
        points = dense.points.mean(0)
        sigma = (dense.points - points)[..., :2].square().sum(-1).mean(0).sqrt()
        roll = head_angles(self.mesh.topology.head_rotation(points)).roll_radians
        is_full = quality == "full"
        area = self._segmentation_region(points)
        size = CROP_SIZE
        return FaceObservation(
            box_xyxy=detection.box_xyxy if detection else tight_box(points).cpu(),
            score=detection.score if detection else 0.0,
            keypoints5=detection.keypoints5 if detection else keypoints_of(points).cpu(),
            landmarks478=points.cpu(),
            landmark_sigma=sigma.cpu(),
            presence=_presence(dense) * certainty(doubt(settled)),
            blendshapes=self._scores(turn(points[:, :2], -roll)).cpu(),
            segmentation=self._segment(pixels, area) if _chosen(segment, is_full) else None,
            segmentation_to_photo=(area / area.new_tensor([size, size, 1.0])).cpu(),
            embedding=self._embed(pixels, points) if _chosen(embed, is_full) else None,
        )

    def _scores(self, upright: Float[Tensor, "478 2"]) -> Float[Tensor, "52"]:
        """Return expression scores, averaged over the face and its mirror image."""
        flipped = upright[self.mesh.topology.mirror] * upright.new_tensor([-1.0, 1.0])
        straight, mirrored_scores = self.blendshapes(torch.stack([upright, flipped]))
        return (straight + mirrored_scores[list(mirrored_expressions())]) / 2

    def _segmentation_region(self, points: Float[Tensor, "478 3"]) -> Float[Tensor, "2 3"]:
        """Return an upright square around the whole head with its hair."""
        region = self.mesh.region_around(points, scale=SEGMENTATION_SCALE)
        # The points end at the hairline; the head's middle lies above their middle.
        shift = region[:, 1] * SEGMENTATION_RISE
        return torch.cat([region[:, :2], (region[:, 2] - shift).unsqueeze(-1)], dim=-1)

    def _segment(
        self, pixels: UInt8[np.ndarray, "H W 3"], region: Float[Tensor, "2 3"]
    ) -> Float[Tensor, "6 S S"]:
        crop = crop_photo(pixels, region[None], CROP_SIZE, border="border")
        return self.segmentation(crop.contiguous(memory_format=torch.channels_last))[0].cpu()

    def _embed(
        self, pixels: UInt8[np.ndarray, "H W 3"], points: Float[Tensor, "478 3"]
    ) -> Float[Tensor, "128"]:
        region = chip_region(points[..., :2])
        chip = crop_photo(pixels, region[None], CHIP_SIZE, border="border")
        return self.identity(chip.contiguous(memory_format=torch.channels_last))[0].cpu()


def detection_region(detection: FaceDetection, scale: float) -> Float[Tensor, "2 3"]:
    """Return the square around a detected face, rotated so that the head is upright."""
    low, high = detection.box_xyxy[:2], detection.box_xyxy[2:]
    roll = detection.roll_radians
    if roll is None:
        roll = roll_radians(detection.keypoints5)
    return square_regions((low + high) / 2, (high - low).amax() * scale, torch.tensor(roll))


def tight_box(points: Float[Tensor, "478 3"]) -> Float[Tensor, "4"]:
    """Return left, top, right, bottom of the points."""
    return torch.cat([points[:, :2].amin(0), points[:, :2].amax(0)])


def check_photo(pixels: np.ndarray) -> None:
    """Raise unless these are the pixels of an sRGB photo.

    Raises:
        ValueError: the shape is not (height, width, 3) or the type is not uint8.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(
            f"Expected sRGB pixels of shape (height, width, 3) and type uint8, got {pixels.shape} "
            f"of {pixels.dtype}. lifemask.io.images.read_photo reads any photo into that form."
        )


@contextlib.contextmanager
def single_thread(device: torch.device) -> Generator[None]:
    """Run torch on one thread: these small networks are slower with several."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _chosen(asked: bool | None, default: bool) -> bool:
    return default if asked is None else asked


def _covers(box_xyxy: Float[Tensor, "4"], point: Float[Tensor, "2"]) -> bool:
    return bool(((point >= box_xyxy[:2]) & (point <= box_xyxy[2:])).all())


def _relative_sigma(points: Float[Tensor, "batch 478 3"]) -> Float[Tensor, ""]:
    """Return the mean distance of points from their mean, in units of the face's extent."""
    mean = points.mean(0)
    extent = (mean[:, :2].amax(0) - mean[:, :2].amin(0)).amax().clamp_min(1e-6)
    return (points - mean)[..., :2].norm(dim=-1).mean() / extent


def _presence(dense: DensePoints) -> float:
    """Return the network's presence score for frontal faces, the passes' agreement for profiles."""
    frontal = dense.presence_logit.mean().sigmoid()
    profile = torch.exp(-((_relative_sigma(dense.points) / PROFILE_TOLERANCE) ** 2))
    return float(torch.lerp(frontal, profile, dense.profile_weight.mean()))
