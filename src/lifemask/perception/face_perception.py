"""Everything the package can say about faces in a photo, behind one object."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.perception import identity, segmentation
from lifemask.perception.blendshapes import BlendshapeNetwork, mirrored_expressions
from lifemask.perception.detector import FaceDetector, roll_radians
from lifemask.perception.identity import IdentityNetwork
from lifemask.perception.landmarks import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    DensePoints,
    FaceMesh,
    jittered,
    region_around,
    turn,
)
from lifemask.perception.observation import FaceDetection, FaceObservation
from lifemask.perception.regions import crop_photo, mirrored, region_side, square_regions, to_photo
from lifemask.perception.segmentation import SegmentationNetwork
from lifemask.perception.weights import load_network

Quality = Literal["fast", "full"]
"""fast: two passes of the landmark network; full: ten more, jittered and mirrored."""

FULL_PASSES = 10

DETECTION_SCALE = 1.3
"""Side of the first region, in units of the detector's box."""

SEGMENTATION_SCALE = 1.35
"""Side of the segmentation crop, in units of the landmark region: shows the hair."""

KEYPOINT_LANDMARKS: tuple[tuple[int, ...], ...] = ((468,), (473,), (1,), (61,), (291,))
"""Counterparts of the detector's five points: irises, nose tip, mouth corners."""


@dataclass(frozen=True)
class FacePerception:
    """Detector, landmarks, expression scores, segmentation and identity."""

    detector: FaceDetector
    mesh: FaceMesh
    blendshapes: BlendshapeNetwork
    segmentation: SegmentationNetwork
    identity: IdentityNetwork
    device: torch.device

    @classmethod
    def from_pretrained(cls, device: str | torch.device = "cpu") -> "FacePerception":
        """Load all networks from the weights that ship with the package."""
        return cls(
            detector=FaceDetector.from_pretrained(device),
            mesh=FaceMesh.from_pretrained(device),
            blendshapes=load_network(BlendshapeNetwork(), "blendshapes", device),
            segmentation=load_network(SegmentationNetwork(), "segmentation", device),
            identity=load_network(IdentityNetwork(), "identity", device),
            device=torch.device(device),
        )

    def detect(self, pixels: np.ndarray) -> list[FaceDetection]:
        """Return the faces of a photo, largest first; empty when there is none.

        Args:
            pixels: upright sRGB photo, (height, width, 3), uint8.

        Raises:
            ValueError: these are not the pixels of a photo.
        """
        check_photo(pixels)
        with single_thread(self.device):
            return self.detector.detect(pixels)

    @torch.inference_mode()
    def observe(
        self,
        pixels: np.ndarray,
        detection: FaceDetection,
        *,
        quality: Quality = "full",
        segment: bool | None = None,
        embed: bool | None = None,
    ) -> FaceObservation:
        """Measure one detected face.

        Args:
            pixels: the photo the detection came from.
            detection: one of `detect`'s results.
            quality: how many passes the landmarks get.
            segment: whether to segment; by default only in full quality.
            embed: whether to compute the identity embedding; by default only in full quality.
        """
        check_photo(pixels)
        with single_thread(self.device):
            low, high = detection.box_xyxy[:2], detection.box_xyxy[2:]
            first = square_regions(
                (low + high) / 2,
                (high - low).amax() * DETECTION_SCALE,
                torch.tensor(roll_radians(detection.keypoints5)),
            ).to(self.device)
            dense = self.mesh.find(pixels, first[None])
            return self._observation(pixels, dense, detection, quality, segment, embed)

    @torch.inference_mode()
    def observe_crop(
        self,
        pixels: np.ndarray,
        *,
        quality: Quality = "full",
        segment: bool | None = None,
        embed: bool | None = None,
    ) -> FaceObservation:
        """Measure the face that fills the photo; always answers.

        Args:
            pixels: a tight crop around one face.
            quality: how many passes the landmarks get.
            segment: as in `observe`.
            embed: as in `observe`.
        """
        check_photo(pixels)
        with single_thread(self.device):
            height, width = pixels.shape[:2]
            middle = torch.tensor([width / 2, height / 2], device=self.device)
            sides = torch.tensor([0.8, 1.0, 1.25, 1.5], device=self.device) * max(height, width)
            regions = square_regions(middle.expand(4, 2), sides, torch.zeros_like(sides))
            found = self.mesh.find(pixels, regions)
            best = int(found.presence_logit.argmax())
            first = DensePoints(
                found.points[best : best + 1], found.presence_logit[best : best + 1]
            )
            return self._observation(pixels, first, None, quality, segment, embed)

    def _observation(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        first: DensePoints,
        detection: FaceDetection | None,
        quality: Quality,
        segment: bool | None,
        embed: bool | None,
    ) -> FaceObservation:
        region = region_around(first.points[0])
        if quality == "full":
            region = region_around(self.mesh.find(pixels, region[None]).points[0])
            regions = jittered(region, FULL_PASSES)
        else:
            regions = torch.stack([region, mirrored(region)])
        dense = self.mesh.find(pixels, regions)
        points = dense.points.mean(0)
        sigma = (dense.points - points)[..., :2].square().sum(-1).mean(0).sqrt()
        across = points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]
        roll = torch.atan2(across[1], across[0])
        is_full = quality == "full"
        area = segmentation_region(points)
        size = segmentation.CROP_SIZE
        return FaceObservation(
            box_xyxy=detection.box_xyxy if detection else tight_box(points).cpu(),
            score=detection.score if detection else 0.0,
            keypoints5=detection.keypoints5 if detection else keypoints_of(points).cpu(),
            landmarks478=points.cpu(),
            landmark_sigma=sigma.cpu(),
            presence=float(dense.presence_logit.mean().sigmoid()),
            blendshapes=self._scores(turn(points[:, :2], -roll)).cpu(),
            segmentation=self._segment(pixels, area) if _chosen(segment, is_full) else None,
            segmentation_to_photo=(area / area.new_tensor([size, size, 1.0])).cpu(),
            embedding=self._embed(pixels, points) if _chosen(embed, is_full) else None,
        )

    def _scores(self, upright: Float[Tensor, "478 2"]) -> Float[Tensor, "52"]:
        """Expression scores, averaged over the face and its mirror image."""
        flipped = upright[self.mesh.mirror] * upright.new_tensor([-1.0, 1.0])
        straight, mirrored_scores = self.blendshapes(torch.stack([upright, flipped]))
        return (straight + mirrored_scores[list(mirrored_expressions())]) / 2

    def _segment(
        self, pixels: UInt8[np.ndarray, "H W 3"], region: Float[Tensor, "2 3"]
    ) -> Float[Tensor, "6 S S"]:
        crop = crop_photo(pixels, region[None], segmentation.CROP_SIZE, border="border")
        return self.segmentation(crop.contiguous(memory_format=torch.channels_last))[0].cpu()

    def _embed(
        self, pixels: UInt8[np.ndarray, "H W 3"], points: Float[Tensor, "478 3"]
    ) -> Float[Tensor, "128"]:
        region = identity.chip_region(points[..., :2])
        chip = crop_photo(pixels, region[None], identity.CHIP_SIZE, border="border")
        return self.identity(chip.contiguous(memory_format=torch.channels_last))[0].cpu()


def segmentation_region(points: Float[Tensor, "478 3"]) -> Float[Tensor, "2 3"]:
    """Return an upright square that shows the whole head with its hair."""
    region = region_around(points)
    side, angle = region_side(region), torch.atan2(region[1, 0], region[0, 0])
    # The points end at the hairline, so the head's middle lies above theirs.
    centre = to_photo(region, region.new_tensor([[0.5, 0.44]]))[0]
    return square_regions(centre, side * SEGMENTATION_SCALE, angle)


def tight_box(points: Float[Tensor, "478 3"]) -> Float[Tensor, "4"]:
    """Return left, top, right, bottom of the points."""
    return torch.cat([points[:, :2].amin(0), points[:, :2].amax(0)])


def keypoints_of(points: Float[Tensor, "478 3"]) -> Float[Tensor, "5 2"]:
    """Return the five points of a detection from the dense ones."""
    return torch.stack([points[list(group), :2].mean(0) for group in KEYPOINT_LANDMARKS])


def check_photo(pixels: np.ndarray) -> None:
    """Raise unless these are the pixels of an sRGB photo.

    Raises:
        ValueError: says what came and what is allowed.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(
            f"Expected sRGB pixels of shape (height, width, 3) and type uint8, got {pixels.shape} "
            f"of {pixels.dtype}. lifemask.io.images.read_photo reads any photo into that form."
        )


@contextlib.contextmanager
def single_thread(device: torch.device) -> Generator[None]:
    """Run torch on one thread: these nets are so small that waiting for others costs more."""
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
