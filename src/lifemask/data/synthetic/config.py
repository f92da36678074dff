"""Configuration of synthetic faces: sizes, probabilities and ranges."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class SyntheticConfig:
    """Distribution of the drawn faces. The defaults cover people in photos and films.

    Raises:
        ValueError: a value is outside its range.
    """

    size: int = 224
    """Pixels along each side of the crop."""
    texture_size: int = 256
    """Texels along each side of the textures."""
    samples: int = 2
    """Samples per pixel along each axis, in pixels that need more than one."""
    margin: float = 1.0
    """Side of the crop, in units of the side of the frame around the face, 0.5 to 2; below 1, the
    crop shows the middle of the face from near."""

    identity_spread: float = 0.9
    """Standard deviation of identity coefficients of most people."""
    identity_limit: float = 2.5
    """Largest absolute coefficient of identity and albedo, standard deviations."""
    tone_range_degrees: tuple[float, float] = (-52.0, 56.0)
    """Typology angles (ITA) of the darkest and the lightest skin; drawn evenly between."""
    make_up: float = 0.4
    """Probability of make-up on a feminine face."""
    freckles: float = 0.15
    """Probability of freckles on light skin."""
    moles: float = 0.35
    """Probability that a face has moles."""
    blemishes: float = 0.2
    """Probability of spots and blotches."""
    beard: float = 0.35
    """Probability of a shadow, stubble or short beard on a masculine face."""
    wrinkles: float = 1.0
    """Factor on the depth of all wrinkles; 0 turns them off."""
    expression_wrinkles: float = 1.0
    """Factor on the depth of wrinkles that depend on the expression."""
    pores: float = 1.0
    """Factor on the finest displacement of the skin, its pores."""

    dressed: float = 0.97
    """Probability that a person has wearables: hair, brows, lashes, glasses, a hat, clothes."""

    mask: float = 0.03
    """Probability that a person wears a mask over nose and mouth."""
    hand: float = 0.07
    """Probability of a hand in front of the face."""
    held: float = 0.03
    """Probability of a phone or microphone in front of the face."""

    neutral: float = 0.25
    """Probability of a face without expression."""
    camera_gaze: float = 0.6
    """Probability that the gaze is directed at the camera."""

    uniform_yaw: float = 0.5
    """Share of the faces with a yaw drawn evenly over all angles; the others are near-frontal."""
    yaw_limit_degrees: float = 100.0
    """Largest yaw to either side."""
    pitch_limit_degrees: float = 40.0
    """Largest pitch up or down."""
    distance_range_metres: tuple[float, float] = (0.3, 3.0)
    """Nearest (selfie) and farthest (telephoto lens) camera; drawn evenly in the logarithm."""
    frame_shift: float = 0.06
    """Largest shift of the frame's centre on each axis, in units of its side."""
    frame_scale: float = 0.10
    """Largest relative change of the frame's side."""
    frame_roll_degrees: float = 10.0
    """Largest rotation of the frame."""
    loose_frame: float = 0.1
    """Probability of a frame with three times larger shift, scale and rotation."""

    photo_background: float = 0.7
    """Probability of a photo's surroundings behind the head, if stored fits are given."""
    directional_light: float = 0.75
    """Probability of a lamp or sun that casts shadows."""
    exposure_spread: float = 0.25
    """Standard deviation of the logarithm of the exposure."""
    grey: float = 0.05
    """Probability of a photo without colour."""
    degradations: float = 1.0
    """Factor on blur, noise and compression of the camera; 0 leaves the photo as drawn."""

    def __post_init__(self) -> None:
        _check(self.size >= 32, f"size is {self.size}", "at least 32 pixels")
        _check(self.texture_size >= 32, f"texture_size is {self.texture_size}", "at least 32")
        _check(0.5 <= self.margin <= 2, f"margin is {self.margin}", "from 0.5 to 2")
        _check(self.samples in (1, 2, 3, 4), f"samples is {self.samples}", "1, 2, 3 or 4")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _PROBABILITIES:
                _check(0 <= value <= 1, f"{field.name} is {value}", "a probability from 0 to 1")
            elif isinstance(value, float):
                _check(value >= 0, f"{field.name} is {value}", "0 or more")
        _check(
            self.yaw_limit_degrees <= 120,
            f"yaw_limit_degrees is {self.yaw_limit_degrees}",
            "at most 120, as the face is not visible at larger angles",
        )
        _check(
            self.pitch_limit_degrees <= 60,
            f"pitch_limit_degrees is {self.pitch_limit_degrees}",
            "at most 60",
        )
        near, far = self.distance_range_metres
        _check(
            0.2 <= near <= far,
            f"distance_range_metres is {self.distance_range_metres}",
            "two distances of at least 0.2 m, the nearer one first",
        )
        dark, light = self.tone_range_degrees
        _check(
            -90 <= dark <= light <= 90,
            f"tone_range_degrees is {self.tone_range_degrees}",
            "two angles from -90 to 90, the darkest skin first",
        )


_PROBABILITIES = frozenset(
    {
        "dressed", "make_up", "freckles", "moles", "blemishes", "beard", "neutral", "camera_gaze",
        "uniform_yaw", "loose_frame", "directional_light", "grey", "mask", "hand", "held",
        "photo_background",
    }
)  # fmt: skip


def _check(valid: bool, came: str, allowed: str) -> None:
    if not valid:
        raise ValueError(f"These synthetic faces cannot be made: {came}. Allowed: {allowed}.")
