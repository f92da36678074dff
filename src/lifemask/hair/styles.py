"""Names of the ways to give a person hair."""

AUTO, NONE, SHELL = "auto", "none", "shell"
"""The photo decides; hair is only painted on the scalp; a shell that follows the photo's outline."""
MESHES = (
    "afro01", "bob01", "bob02", "long01", "ponytail01", "short01", "short02", "short03",
    "short04",
)  # fmt: skip
"""Hair meshes that ship, whatever the photo shows; only their colour is the photo's."""
STYLES = (AUTO, NONE, SHELL, *MESHES)


def check_style(style: str) -> None:
    """Raise unless there is such a style.

    Raises:
        ValueError: the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f"Cannot make hair {style!r}. Known: {', '.join(STYLES)}.")
