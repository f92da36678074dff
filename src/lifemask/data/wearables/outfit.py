"""Random outfits: the wearables of one synthetic person."""

from dataclasses import dataclass, fields

import numpy as np

Colour = tuple[float, float, float]
"""Linear RGB."""

HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.011, 0.009, 0.008),
    "soft black": (0.022, 0.016, 0.012),
    "dark brown": (0.042, 0.025, 0.016),
    "brown": (0.085, 0.048, 0.027),
    "light brown": (0.15, 0.092, 0.052),
    "dark blond": (0.23, 0.155, 0.085),
    "blond": (0.38, 0.27, 0.145),
    "light blond": (0.52, 0.41, 0.25),
    "auburn": (0.11, 0.032, 0.015),
    "red": (0.22, 0.068, 0.022),
    "grey": (0.24, 0.235, 0.23),
    "white": (0.55, 0.54, 0.52),
}
"""Mean linear RGB reflectance of hair by colour name."""

# Probability of each hair style for masculine and feminine people.
_STYLES: dict[str, tuple[float, float]] = {
    "hair_short01": (0.26, 0.06),
    "hair_short02": (0.20, 0.06),
    # This style and the bobs have a fringe over one eye, which few people have.
    "hair_short03": (0.015, 0.02),
    "hair_short04": (0.36, 0.05),
    "hair_afro01": (0.06, 0.09),
    "hair_bob01": (0.005, 0.02),
    "hair_bob02": (0.005, 0.05),
    "hair_long01": (0.03, 0.34),
    "hair_ponytail01": (0.03, 0.28),
}
_BROWS = tuple(f"brow_{k:03d}" for k in (1, 2, 3, 4, 5, 8, 9, 10, 11, 12))
NECKLINES = ("crew", "v", "high", "scoop", "shirt")
"""Shapes of the cloth's upper edge."""


@dataclass(frozen=True)
class OutfitConfig:
    """Probabilities of wearables.

    Raises:
        ValueError: a value is outside its range.
    """

    bald: float = 0.04
    """Probability that a young masculine person has no hair; it grows sixfold with age."""
    dyed: float = 0.012
    """Probability of hair in an unnatural colour."""
    brows: float = 0.93
    """Probability of modelled brows; other people have only the painted brows of the texture."""
    lashes: float = 0.6
    """Probability that modelled lashes replace the head's own."""
    glasses: float = 0.25
    """Probability of glasses of any kind."""
    sunglasses: float = 0.12
    """Share of the glasses that are tinted."""
    hat: float = 0.04
    """Probability of a hat."""
    jacket: float = 0.35
    """Probability of a jacket over a shirt."""
    torso_turn_degrees: float = 25.0
    """Standard deviation of the angle between head and shoulders."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            limit = 90 if field.name == "torso_turn_degrees" else 1
            if not 0 <= value <= limit:
                raise ValueError(
                    f"{field.name} is {value}; outfits need a number from 0 to {limit}."
                )


@dataclass(frozen=True)
class Outfit:
    """The wearables of one person; names are those of `Wardrobe`, colours are linear RGB."""

    hair: str | None = None
    """Hair style; None is bald."""
    hair_colour: Colour = HAIR_COLOURS["dark brown"]
    """Mean colour of the hair."""
    hair_specular: float = 0.5
    """Strength of the hair's highlight, 0 to 1."""
    brows: str | None = None
    """Modelled brows; None keeps the painted brows."""
    brow_colour: Colour = HAIR_COLOURS["black"]
    """Colour of the brows' hairs."""
    brow_strength: float = 0.9
    """Factor on the brows' opacity."""
    lashes: str | None = None
    """Modelled lashes; None keeps the head's own."""
    lash_strength: float = 0.7
    """Factor on the lashes' opacity."""
    glasses: bool = False
    """Whether the person wears glasses."""
    frame_colour: Colour = (0.02, 0.02, 0.02)
    """Colour of the glasses' frame."""
    lens_colour: Colour = (0.02, 0.02, 0.02)
    """Colour of tinted lenses."""
    lens_opacity: float = 0.05
    """Opacity of the lenses: 0 is clear, sunglasses have 0.6 to 0.97."""
    hat: str | None = None
    """Hat; None is no hat."""
    hat_colour: Colour = (0.05, 0.05, 0.05)
    """Mean colour of the hat."""
    clothes: bool = True
    """Whether shoulders and a shirt are drawn."""
    neckline: str = "crew"
    """Shape of the cloth's upper edge, one of `NECKLINES`."""
    neckline_depth: float = 0.5
    """Depth of the neckline, 0 to 1."""
    cloth_colour: Colour = (0.1, 0.1, 0.15)
    """Mean colour of the cloth."""
    stripe_colour: Colour | None = None
    """Second colour of a striped cloth; None is no stripes."""
    stripes: float = 12.0
    """Number of stripes along the cloth."""
    weave: float = 0.1
    """Contrast of the cloth's grain."""
    jacket: float | None = None
    """Brightness of an open jacket, relative to the cloth (the shirt); None is no jacket."""
    tie: float | None = None
    """Brightness of a tie under the jacket, relative to the shirt; None is an open collar."""
    torso_turn: float = 0.0
    """Rotation of the shoulders relative to the head, towards the subject's left, radians."""


def random_outfit(
    rng: np.random.Generator,
    config: OutfitConfig | None = None,
    *,
    masculine: bool | None = None,
    age_years: float = 35.0,
    darkness: float = 0.5,
) -> Outfit:
    """Return a random outfit.

    Args:
        rng: generator of random numbers; equal generators give equal outfits.
        config: probabilities.
        masculine: decides which hair styles are likely; None is random.
        age_years: old people are grey or bald more often.
        darkness: of the skin, 0 (lightest) to 1; people with dark skin mostly have dark hair.
    """
    config = OutfitConfig() if config is None else config
    masculine = bool(rng.random() < 0.5) if masculine is None else masculine
    old = float(np.clip((age_years - 25) / 50, 0, 1))
    own_colour, hair_colour = _hair_colours(rng, config, old, darkness, masculine=masculine)
    names = list(_STYLES)
    chance = np.array([_STYLES[name][0 if masculine else 1] for name in names])
    # Few people with light skin have tight curls.
    chance[names.index("hair_afro01")] *= 0.05 + 3.0 * darkness
    hair: str | None = str(rng.choice(names, p=chance / chance.sum()))
    bald = config.bald * (1 + 5 * old) if masculine else config.bald * 0.1
    if rng.random() < bald:
        hair = None
    # Brows become grey later than hair.
    turned = rng.random() * 0.6
    brow_colour = own_colour * (1 - turned) + np.minimum(hair_colour, 0.2) * turned
    brow_colour = _times(np.minimum(brow_colour, (0.16, 0.13, 0.1)), rng.uniform(0.22, 0.65))
    lenses = (0.02, 0.02, 0.02)
    tinted = bool(rng.random() < config.sunglasses)
    if tinted:
        lenses = _colour(np.exp(rng.normal(0, 0.5, 3)) * rng.uniform(0.005, 0.05))
    frames = _FRAMES[rng.choice(len(_FRAMES), p=_FRAME_CHANCES)]
    dark, light = sorted(np.exp(rng.uniform(np.log(0.012), np.log(0.75), 2)))
    cloth = _fabric(rng, dark if rng.random() < 0.5 else light)
    stripe = _fabric(rng, light) if rng.random() < 0.15 else None
    jacket = tie = None
    if rng.random() < config.jacket:
        shirt = rng.choice((0.72, 0.6, 0.25), p=(0.6, 0.25, 0.15)) * rng.uniform(0.85, 1.1)
        cloth, stripe = _colour(shirt * np.exp(rng.normal(0, 0.07, 3))), None
        jacket = float(np.exp(rng.uniform(np.log(0.012), np.log(0.15)))) / shirt
        if masculine and rng.random() < 0.75:
            tie = float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))) / shirt
    return Outfit(
        hair=hair,
        hair_colour=_colour(hair_colour),
        hair_specular=float(rng.uniform(0.1, 1.0)),
        brows=str(rng.choice(_BROWS)) if rng.random() < config.brows else None,
        brow_colour=brow_colour,
        brow_strength=float(rng.uniform(0.7, 1.0)),
        lashes=_lashes(rng, masculine=masculine) if rng.random() < config.lashes else None,
        lash_strength=float(rng.uniform(0.3, 0.5) if masculine else rng.uniform(0.35, 0.75)),
        glasses=bool(rng.random() < config.glasses),
        frame_colour=_times(frames, rng.uniform(0.7, 1.3)),
        lens_colour=lenses,
        lens_opacity=float(rng.uniform(0.55, 0.97) if tinted else rng.uniform(0.02, 0.12)),
        hat="hat_fedora" if rng.random() < config.hat else None,
        hat_colour=_fabric(rng, float(np.exp(rng.uniform(np.log(0.015), np.log(0.5))))),
        neckline=str(rng.choice(NECKLINES, p=(0.45, 0.17, 0.12, 0.1, 0.16))),
        neckline_depth=float(rng.random()),
        cloth_colour=cloth,
        stripe_colour=stripe,
        stripes=float(rng.uniform(6, 30)),
        weave=float(rng.uniform(0.01, 0.12)),
        jacket=jacket,
        tie=tie,
        torso_turn=float(np.clip(rng.standard_normal(), -2, 2))
        * np.radians(config.torso_turn_degrees),
    )


_FRAMES = np.array(
    [
        (0.008, 0.008, 0.008), (0.02, 0.02, 0.022), (0.05, 0.025, 0.012), (0.12, 0.055, 0.02),
        (0.25, 0.24, 0.23), (0.45, 0.33, 0.14), (0.02, 0.025, 0.09), (0.16, 0.015, 0.02),
        (0.6, 0.58, 0.55),
    ]
)  # fmt: skip
_FRAME_CHANCES = (0.28, 0.22, 0.13, 0.08, 0.11, 0.06, 0.05, 0.05, 0.02)


def _hair_colours(
    rng: np.random.Generator,
    config: OutfitConfig,
    old: float,
    darkness: float,
    *,
    masculine: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the natural colour of the hair, and its present colour, which may be grey or dyed."""
    names = list(HAIR_COLOURS)[:10]
    weight = np.array([0.20, 0.16, 0.20, 0.16, 0.10, 0.06, 0.05, 0.02, 0.03, 0.02])
    # The darker the skin, the rarer is hair lighter than dark brown.
    fairness = np.array([0, 0, 0.5, 1.5, 2.5, 4, 5, 6, 3, 4.0])
    weight = weight * np.exp(-fairness * np.clip(2 * darkness - 0.4, 0, 2) * 1.2)
    own = np.array(HAIR_COLOURS[names[rng.choice(len(names), p=weight / weight.sum())]])
    grey = np.array(HAIR_COLOURS["grey" if rng.random() < 0.7 else "white"])
    amount = np.clip(rng.normal(1.9 * old - 1.15, 0.35), 0, 1)
    # Half of the women with grey hair dye it in a natural colour.
    if rng.random() < 0.5 and not masculine:
        amount = 0.0
    colour = own * (1 - amount) + grey * amount
    if rng.random() < config.dyed:
        hue = rng.random() * 6
        vivid = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
        colour = (0.05 + vivid * rng.uniform(0.2, 0.9)) * rng.uniform(0.15, 0.7)
    change = np.exp(0.15 * rng.standard_normal() + 0.04 * rng.standard_normal(3))
    return own * change, colour * change


def _lashes(rng: np.random.Generator, *, masculine: bool) -> str:
    return "lashes_01" if masculine else f"lashes_{rng.integers(1, 5):02d}"


def _fabric(rng: np.random.Generator, brightness: float) -> Colour:
    saturation = rng.beta(1.0, 3.0) * 1.0
    return _colour(np.clip(brightness * np.exp(saturation * rng.standard_normal(3)), 0.006, 0.85))


def _times(colour: np.ndarray, factor: float) -> Colour:
    return _colour(np.asarray(colour) * factor)


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(x) for x in values)
    return red, green, blue
