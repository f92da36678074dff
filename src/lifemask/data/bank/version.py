"""The version of the generator: a digest of the code and the assets that decide what it draws."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lifemask.morphable.assets import read_card

_ROOTS = (
    "lifemask.data.synthetic.generator",
    "lifemask.data.rerendered",
    "lifemask.rendering._backends.numba",
)
"""Modules that draw; all that they import from this package counts too."""

_ASSETS = (
    "head/head",
    "head/albedo",
    "head/landmarks",
    "perception/face_mesh_topology",
    "wearables/wearables",
)
_SOURCE = Path(__file__).resolve().parents[3]
_WITHOUT_EFFECT = frozenset({"annotation", "returns", "type_comment", "type_params", "kind"})
"""Fields of syntax trees that do not change what is drawn."""


@cache
def generator_version() -> str:
    """Return sixteen hexadecimal digits that differ for generators that may draw other faces.

    Comments, docstrings, annotations and layout of the code do not count.
    """
    digest = hashlib.sha256()
    for module, tree in sorted(_imported(_ROOTS).items()):
        digest.update(f"{module}\n".encode())
        for word in essence(tree):
            digest.update(f"{word} ".encode())
    for name in _ASSETS:
        digest.update(read_card(name).sha256.encode())
    return digest.hexdigest()[:16]


def essence(node: object) -> Iterator[str]:
    """Yield what a syntax tree computes, word by word; the same in all versions of Python."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if value is not None and value != [] and name not in _WITHOUT_EFFECT:
                yield name
                yield from essence(value)
    elif isinstance(node, list):
        for child in node:  # pyright: ignore[reportUnknownVariableType]
            if not _is_text(child):
                yield from essence(child)
        yield "."
    else:
        yield repr(node)


def _is_text(statement: object) -> bool:
    """Return whether a statement is a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imported(roots: tuple[str, ...]) -> dict[str, ast.Module]:
    """Return the syntax trees of modules and of all that they import from this package."""
    found: dict[str, ast.Module] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if path is None or module in found:
            continue
        found[module] = ast.parse(path.read_bytes())
        for node in ast.walk(found[module]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lifemask."):
                waiting.append(str(node.module))
                waiting += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _path(module: str) -> Path | None:
    """Return the file of a module, None if there is none."""
    place = _SOURCE.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.exists():
            return path
    return None
