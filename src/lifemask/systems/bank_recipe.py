"""What recipes have in common whose systems learn from banks of stills through frozen layers."""

from dataclasses import replace

from lifemask.data.augmentation_config import Augmentation
from lifemask.training.config import BankSource, Schedule

STILLS = BankSource(
    1.0,
    folder="banks/stills",
    repeats=2,
    augmentation=Augmentation(
        shift=0.05, scale=0.1, tint=0.1, gamma=0.2, grey=0.08, noise=0.02, cut=0.2
    ),
)
"""Drawn and re-rendered faces; the same variations, so that systems can be compared."""

HARD = replace(STILLS, share=0.2, folder="banks/hard")
"""Drawn faces near the camera, behind hands and held things, or cut by the frame."""

BANKS = {"bank": STILLS, "hard": HARD}
"""What systems learn from that need only faces with truth."""

SCHEDULE = Schedule(steps=12_000, warmup_steps=200)
"""The same length for all of them."""

SMOKE = (
    "system.options.crop_size=64",
    "system.options.input_size=128",
    "system.options.pretrained=false",
)
"""Changes that make such a recipe small."""
