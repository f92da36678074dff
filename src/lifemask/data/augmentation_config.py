"""Strengths of the variations of training photos; this module imports nothing large."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Augmentation:
    """Strengths of all variations; zero switches one off, `Augmentation.none()` all of them."""

    mirror: float = 0.5
    """Share of faces that are mirrored together with their labels and truth."""
    shift: float = 0.04
    """Largest shift of the frame, in units of its side."""
    scale: float = 0.08
    """Largest enlargement or reduction: 0.08 is from 1 / 1.08 to 1.08."""
    turn_degrees: float = 12.0
    """Largest rotation in the image plane."""
    exposure: float = 0.35
    """Largest change of brightness, as a power of e; the true light changes with it."""
    tint: float = 0.08
    """Standard deviation of each channel's gain, as a power of e; the true light changes too."""
    gamma: float = 0.15
    """Largest change of contrast: exponents from 1 / 1.15 to 1.15 on linear light."""
    grey: float = 0.05
    """Share of photos without colour."""
    blur: float = 0.3
    """Share of blurred photos."""
    blur_pixels: float = 1.5
    """Largest standard deviation of the blur, in pixels of a photo of 224 x 224."""
    noise: float = 0.03
    """Largest standard deviation of sensor noise in sRGB."""
    compression: float = 0.3
    """Share of photos with a compression like JPEG."""
    occlusion: float = 0.2
    """Share of photos with patches in front of the face."""
    cut: float = 0.15
    """Share of photos that end inside the frame; outside, the border repeats, or all is black."""

    @classmethod
    def none(cls) -> "Augmentation":
        """Return strengths that change nothing."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    @classmethod
    def patches(cls) -> "Augmentation":
        """Return strengths for synthetic faces, which already have random frames and cameras."""
        return replace(cls.none(), occlusion=0.2)
