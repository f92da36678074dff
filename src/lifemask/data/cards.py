"""Reads the JSON card of a photo or video: the person it shows, and its licence tier."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lifemask.data.photos import ShardError

Card = Mapping[str, Any]
"""`source`, `identity` (name of the person, unique within the source), `licence_tier`, and more."""


def check_tier(card: Card, tiers: Sequence[str], *, of: str) -> None:
    """Check that a photo or video may be used.

    Args:
        card: of the photo or video.
        tiers: the licence tiers that are allowed.
        of: name of the photo or video, for the error message.

    Raises:
        ShardError: the card names another tier, or none.
    """
    tier = card.get("licence_tier")
    if tier not in tiers:
        raise ShardError(
            f"{of} has the licence tier {tier!r}; the recipe allows {', '.join(tiers)}. Leave it "
            "out, or allow the tier and state it wherever the weights are published."
        )


def person_name(card: Card) -> str | None:
    """Return the name of the person on a card; None if there is none."""
    identity = card.get("identity")
    return None if identity is None else f"{card.get('source')}/{identity}"


def person_number(name: str) -> int:
    """Return a number, 0 or more, for a person's name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])


def held_out_people(names: Iterable[str], share: float) -> frozenset[str]:
    """Return the people for validation: at least one, and not all if there are two or more.

    The choice depends only on each person's name; it does not change if other people are added.

    Args:
        names: of all people.
        share: expected share of the people.
    """
    ordered = sorted(set(names), key=lambda name: (_place(name), name))
    below = sum(_place(name) <= share for name in ordered)
    return frozenset(ordered[: min(max(below, 1), max(len(ordered) - 1, 1))])


def _place(name: str) -> float:
    """Return a number from 0 to 1 that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[-4:]) / 2**32
