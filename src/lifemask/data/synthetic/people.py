"""Random people: shape, age, skin and its marks, and wearables."""

from dataclasses import dataclass

import numpy as np

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.wrinkles import FAMILIES, VARIANTS
from lifemask.data.wearables.occluders import MaskLook, random_mask
from lifemask.data.wearables.outfit import Outfit, random_outfit

NOISES = 6
"""Number of different fields for each kind of noise."""


@dataclass(frozen=True)
class Person:
    """The values that are the same in all photos of one person."""

    identity: np.ndarray
    """(I,) identity coefficients, standard deviations."""
    albedo: np.ndarray
    """(A,) albedo coefficients, standard deviations."""
    age_years: float
    """Age, 16 to 85."""
    masculine: bool
    """Whether the face is masculine; decides beards and make-up."""
    skin_specular: float
    """Factor on the specular reflection of the skin."""
    paint: dict[str, np.ndarray]
    """For each layer by name, the change of log (red, green, blue) where the layer is 1."""
    noise: np.ndarray
    """(3,) numbers of the noise fields of freckles, stubble and blotches."""
    spots: np.ndarray
    """(K, 7): u, v, radius in texture widths, log colour (3), height in metres."""
    displacement_amplitudes: np.ndarray
    """(2,) amplitude in metres of pores and of lumps."""
    displacement_noise: np.ndarray
    """(2,) numbers of the noise fields of pores and of lumps."""
    wrinkle_strengths: np.ndarray
    """(families, 2) factor on the depth of each family's wrinkles, left and right."""
    wrinkle_variants: np.ndarray
    """(families, 2) numbers of the drawings on the left and on the right."""
    outfit: Outfit
    """Hair, brows, lashes, glasses, hat and clothes."""
    cloth_seed: int
    """Seed of the cloth's grain."""
    mask: MaskLook | None
    """Mask over nose and mouth, if any."""


# Individual typology angle of the cheek (Chardon et al. 1991) for values of the melanin mode.
_TONE_DEGREES = (-55.0, -48.0, -30.0, 5.0, 25.0, 43.0, 50.0, 57.0)
_TONE_MELANIN = (2.6, 2.1, 1.0, 0.0, -0.5, -1.0, -1.25, -1.6)

# Value of the mode `brow_darkness` for which painted brows differ least from the skin around them.
_WITHOUT_BROW = -1.7

_DARKER = np.array([1.0, 1.0, 1.0])
# Decrease of log red, green and blue by blood and by melanin.
_BLOOD = np.array([0.06, 0.42, 0.36])
_MELANIN = np.array([0.55, 0.75, 0.85])


def sample_person(
    rng: np.random.Generator,
    config: SyntheticConfig,
    *,
    identity_modes: int,
    albedo_modes: tuple[str, ...],
) -> Person:
    """Return a random person; the head's coefficients are truncated Gaussians of varying spread.

    The order of random numbers decides which person belongs to a seed.
    """
    limit = config.identity_limit
    spread = config.identity_spread * rng.choice([0.6, 1.0, 1.25], p=[0.2, 0.6, 0.2])
    identity = spread * rng.standard_normal(identity_modes)
    age = float(np.clip(16 + 70 * rng.beta(1.1, 1.9), 16, 85))
    masculine = bool(rng.random() < 0.5)
    identity = np.clip(_of_a_sex(identity, spread, masculine=masculine), -limit, limit)
    tone_degrees = rng.uniform(*config.tone_range_degrees)
    traits = _Traits(
        age_years=age,
        old=(age - 16) / 69,
        masculine=masculine,
        tone_degrees=tone_degrees,
        light=float(np.clip((tone_degrees + 20) / 70, 0, 1)),
        bearded=masculine and rng.random() < config.beard,
        made_up=not masculine and rng.random() < config.make_up,
    )
    albedo = _sample_albedo(rng, traits, albedo_modes, limit)
    paint = _sample_paint(rng, traits, config)
    wrinkle_variants = _sample_wrinkle_variants(rng)
    outfit = Outfit(clothes=False)
    if rng.random() < config.dressed:
        darkness = 1 - traits.light
        outfit = random_outfit(rng, masculine=masculine, age_years=age, darkness=darkness)
    if outfit.brows is not None and "brow_darkness" in albedo_modes:
        # Modelled brows replace the painted ones.
        albedo[albedo_modes.index("brow_darkness")] = _WITHOUT_BROW
    return Person(
        identity=identity.astype(np.float32),
        albedo=albedo,
        age_years=age,
        masculine=masculine,
        skin_specular=float(np.exp(0.4 * rng.standard_normal())) * (1.15 - 0.3 * traits.old),
        paint={name: value.astype(np.float32) for name, value in paint.items()},
        noise=rng.integers(0, NOISES, 3),
        spots=_sample_spots(rng, config),
        displacement_amplitudes=_sample_amplitudes(rng, traits, config),
        displacement_noise=rng.integers(0, NOISES, 2),
        wrinkle_strengths=_sample_wrinkle_strengths(rng),
        wrinkle_variants=wrinkle_variants,
        outfit=outfit,
        cloth_seed=int(rng.integers(2**31)),
        mask=random_mask(rng) if rng.random() < config.mask else None,
    )


@dataclass(frozen=True)
class _Traits:
    """The traits that decide the distribution of a person's other values."""

    age_years: float
    """Age, 16 to 85."""
    old: float
    """0 at 16 years, 1 at 85."""
    masculine: bool
    """As in `Person`."""
    tone_degrees: float
    """Typology angle of the skin."""
    light: float
    """0 for dark skin, 1 for light skin."""
    bearded: bool
    """Whether there is at least a shadow of a beard."""
    made_up: bool
    """Whether the person wears make-up."""


def _sample_albedo(
    rng: np.random.Generator, traits: _Traits, modes: tuple[str, ...], limit: float
) -> np.ndarray:
    """Return the coefficients (A,) of the head's albedo modes."""
    light = traits.light
    hair_darkness = rng.normal(0.2 + 0.3 * (1 - light), 0.8) - 1.2 * traits.old * rng.random()
    known = {
        "melanin": float(np.interp(traits.tone_degrees, _TONE_DEGREES, _TONE_MELANIN)),
        "blood": rng.normal(0.5 * light, 0.7),
        "undertone": rng.normal(0, 0.8),
        "brow_darkness": hair_darkness + rng.normal(0, 0.4),
        "brow_shape_1": rng.normal(0, 0.4),
        "brow_shape_2": rng.normal(0, 0.4),
        "scalp_darkness": hair_darkness + rng.normal(0.3, 0.4),
        "beard_shadow": (rng.uniform(-0.1, 1.3) if traits.masculine else rng.normal(-0.15, 0.1)),
        "lip_darkness": rng.normal(0, 0.8),
        "lip_redness": rng.normal(0, 0.8),
        "iris_lightness": rng.normal(-1.0 + 2.2 * light * rng.random(), 0.5),
        "iris_hue": rng.normal(0, 1.0),
    }
    albedo = np.array([known.get(name, 0.8 * rng.standard_normal()) for name in modes])
    return np.clip(albedo, -max(limit, 3), max(limit, 3)).astype(np.float32)


def _sample_paint(
    rng: np.random.Generator, traits: _Traits, config: SyntheticConfig
) -> dict[str, np.ndarray]:
    """Return each layer's change of the log albedo."""
    paint: dict[str, np.ndarray] = {}
    if traits.bearded:
        paint |= _sample_beard(rng, traits)
    if traits.made_up:
        paint |= _sample_make_up(rng)
    old, light = traits.old, traits.light
    paint["under eye"] = -rng.uniform(0, 0.3) * (0.5 + old) * np.array([0.7, 1.0, 0.9])
    paint["socket"] = -abs(rng.normal(0, 0.10)) * np.array([0.8, 1.0, 1.0])
    paint["eyeballs"] = -rng.uniform(0.05, 0.5) * np.array([0.8, 1.0, 1.15])
    paint["flush"] = rng.normal(0.15, 0.25) * -_BLOOD
    paint["nose"] = rng.normal(0.15, 0.3) * -_BLOOD * (0.5 + 0.5 * light)
    covered = 0.3 if traits.made_up else 1.0
    paint["blotches"] = rng.uniform(0.02, 0.14) * covered * -_BLOOD
    paint["patches"] = rng.uniform(0.0, 0.06) * covered * -_MELANIN
    paint["mottle"] = -rng.uniform(0.01, 0.05) * (0.4 if traits.made_up else 1.0) * _MELANIN
    if rng.random() < config.freckles * (0.3 + light):
        paint["freckles"] = -rng.uniform(0.25, 0.9) * _MELANIN
    elif rng.random() < 0.8 * old:
        paint["freckles"] = -rng.uniform(0.05, 0.4) * _MELANIN
    return paint


def _sample_beard(rng: np.random.Generator, traits: _Traits) -> dict[str, np.ndarray]:
    # Grey hair reduces the skin's colour more than its brightness.
    hairs = np.array([1.1, 0.95, 0.8])
    if rng.random() < 0.8 * traits.old:
        hairs = np.array([0.7, 0.35, 0.1])
    thickness = rng.uniform(0.25, 1.0)
    paint = {"stubble": -thickness * hairs}
    if rng.random() < 0.4:
        grown = rng.uniform(0.3, 1.2)
        paint["beard"] = -grown * hairs
        thickness += grown
    paint["moustache"] = -thickness * rng.uniform(0.6, 1.1) * hairs
    return paint


def _sample_make_up(rng: np.random.Generator) -> dict[str, np.ndarray]:
    lipstick = rng.choice([0.0, 0.4, 1.0], p=[0.25, 0.4, 0.35]) * rng.uniform(0.4, 1.0)
    return {
        "lips": lipstick
        * np.array([rng.uniform(-0.25, 0.25), rng.uniform(-1.2, -0.3), rng.uniform(-0.9, -0.1)]),
        "lids": -rng.uniform(0, 0.8) * np.exp(0.35 * rng.standard_normal(3)),
        "liner": -rng.uniform(0.2, 1.6) * _DARKER,
        "blush": -rng.uniform(0, 0.6) * np.array([0.0, 0.5, 0.35]),
    }


def _sample_wrinkle_variants(rng: np.random.Generator) -> np.ndarray:
    """Return the numbers (families, 2) of each family's drawings on the left and on the right."""
    variants = rng.integers(0, VARIANTS, (len(FAMILIES), 1)).repeat(2, 1)
    # Most wrinkles are roughly symmetric; some are not.
    other = rng.random(len(FAMILIES)) < 0.35
    variants[other, 1] = rng.integers(0, VARIANTS, int(other.sum()))
    return variants


def _sample_wrinkle_strengths(rng: np.random.Generator) -> np.ndarray:
    """Return factors (families, 2) on depths: people differ, and so do the sides of their faces."""
    both = rng.normal(0, 0.4, (len(FAMILIES), 1)) + rng.normal(0, 0.2, (len(FAMILIES), 2))
    return np.exp(both).clip(max=2).astype(np.float32)


def _sample_amplitudes(
    rng: np.random.Generator, traits: _Traits, config: SyntheticConfig
) -> np.ndarray:
    """Return the amplitudes (2,) in metres of pores and of lumps."""
    pores = config.pores * rng.uniform(0.5e-5, 2.5e-5) * (0.7 + 0.6 * traits.masculine)
    lumps = config.pores * rng.uniform(2e-5, 8e-5) * (0.7 + 0.5 * traits.old)
    return np.array([pores, lumps], np.float32)


# Difference of men (+) from women (-) in modes of the default head, in standard deviations:
# MakeHuman's sexes, averaged over ages and origins, fitted with the head's modes and their prior to
# 0.3 mm. It explains 91 % of the difference; most of that is size, the first mode.
_MASCULINE = {
    0: -1.02, 1: -0.4, 2: 0.28, 3: -0.16, 5: -0.25, 6: -0.97, 7: -0.74, 9: 0.5, 10: -0.44,
    12: -0.22, 13: -0.14, 14: -0.56, 16: -0.8, 18: -0.83, 21: -0.89, 23: 0.23, 25: -0.25,
    26: -0.26, 33: -0.45, 35: -0.19, 36: -0.18, 41: 0.18, 43: 0.19, 45: -0.4, 46: -0.33, 50: 0.16,
    51: 0.31, 53: 0.17, 54: -0.14, 55: -0.24, 58: -0.18, 60: 0.17, 61: 0.15, 65: -0.15, 71: -0.18,
}  # fmt: skip
_SEXED = 1.2
"""Factor on the mean difference of the sexes; their distributions overlap."""


def _of_a_sex(identity: np.ndarray, spread: float, *, masculine: bool) -> np.ndarray:
    """Return coefficients shifted to one sex; their distribution over both sexes stays the same."""
    sexed = identity.copy()
    for mode, weight in _MASCULINE.items():
        if mode < len(sexed):
            mean = np.clip(_SEXED * weight, -0.9, 0.9) * (1 if masculine else -1)
            sexed[mode] = spread * mean + identity[mode] * np.sqrt(1 - mean * mean)
    return sexed


def _sample_spots(rng: np.random.Generator, config: SyntheticConfig) -> np.ndarray:
    """Return moles and blemishes (K,7): u, v, radius, log colour, height."""
    spots = []
    if rng.random() < config.moles:
        for _ in range(rng.integers(1, 7)):
            radius = 0.0011 + 0.0022 * rng.random() ** 2
            colour = -rng.uniform(0.4, 1.4) * _MELANIN
            height = 0.0004 * rng.random() if radius > 0.002 else 0.0
            spots.append([*_place(rng), radius, *colour, height])
    if rng.random() < config.blemishes:
        for _ in range(rng.integers(2, 14)):
            radius = 0.0015 + 0.0035 * rng.random() ** 2
            colour = -rng.uniform(0.2, 0.9) * _BLOOD * 1.3
            spots.append([*_place(rng), radius, *colour, 0.0004 * rng.random()])
    return np.array(spots, np.float32).reshape(-1, 7)


def _place(rng: np.random.Generator) -> tuple[float, float]:
    """Return a position (u, v) on the face's part of the texture, mostly beside its middle."""
    return float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.15, 0.85))
