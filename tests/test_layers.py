"""Packages import only what lies below them, so that each can be read and changed alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

# From the top: each may import what stands on later lines, never its neighbours on the same line.
LAYERS = (
    ("cli", "service"),
    ("batch", "evaluation"),
    ("pipeline", "training"),
    ("systems",),
    ("fitting",),
    ("losses", "networks", "data"),
    ("perception", "rendering"),
    ("morphable",),
    ("io",),
    ("geometry",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield what a file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            if node.module == "lifemask":
                yield from (f"lifemask.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def forbidden(importer: str, source: str) -> list[str]:
    """Return the imports of a package's file that go up or sideways."""
    wrong: list[str] = []
    for module in imported_modules(ast.parse(source)):
        head, _, rest = module.partition(".")
        package = rest.partition(".")[0]
        if head != "lifemask" or package not in LEVEL or package == importer:
            continue
        if LEVEL[package] <= LEVEL[importer]:
            wrong.append(module)
    return wrong


def test_every_package_has_a_layer() -> None:
    packages = {
        path.name
        for path in (SOURCE / "lifemask").iterdir()
        if path.is_dir() and any(path.glob("*.py"))
    }
    assert packages <= set(LEVEL)


def test_no_import_goes_up_or_sideways() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for package in LEVEL
        for path in sorted((SOURCE / "lifemask" / package).rglob("*.py"))
        for module in forbidden(package, path.read_text("utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "line", "allowed"),
    [
        ("io", "from lifemask.geometry.meshes import Mesh", True),
        ("io", "from lifemask.io.files import write_bytes", True),
        ("io", "import lifemask", True),
        ("io", "import lifemask.rendering", False),
        ("io", "from lifemask import rendering", False),
        ("rendering", "def f():\n    from lifemask.perception import FacePerception", False),
    ],
)
def test_the_check_itself(importer: str, line: str, allowed: bool) -> None:
    assert (forbidden(importer, line) == []) is allowed
