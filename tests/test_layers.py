"""Packages import only lower layers, so that each can be read and changed alone."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

# From the top: each may import what stands on later lines, never its neighbours on the same line.
LAYERS = (
    ("cli", "service"),
    ("batch", "evaluation"),
    ("pipeline",),
    ("systems",),
    ("training",),
    ("hair",),
    ("texture", "fitting", "registration"),
    ("losses", "networks", "data"),
    ("perception", "rendering"),
    ("morphable",),
    ("io",),
    ("geometry",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of all imports, also inside functions and for type checkers.

    The name is empty where a whole module is imported.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield from ((node.module or "", alias.name) for alias in node.names)


def package_of(module: str, name: str) -> str:
    """Return the package of this project that an import comes from; empty for others."""
    head, _, rest = f"{module}.{name}".partition(".")
    return rest.partition(".")[0] if head == "lifemask" else ""


def forbidden(importer: str, source: str) -> list[str]:
    """Return the imports in a package's file that are from a higher or the same layer."""
    return [
        f"{module} {name}".rstrip()
        for module, name in imports(source)
        if (package := package_of(module, name)) in LEVEL
        and package != importer
        and LEVEL[package] <= LEVEL[importer]
    ]


def private(importer: str, source: str) -> list[str]:
    """Return the imports of private names of another package: `_name` or `_module`."""
    return [
        f"{module} {name}".rstrip()
        for module, name in imports(source)
        if package_of(module, name) not in ("", importer)
        and any(
            part.startswith("_") and part != "__version__" for part in f"{module}.{name}".split(".")
        )
    ]


def files_by_module() -> dict[str, Path]:
    paths = sorted((SOURCE / "lifemask").rglob("*.py"))
    dotted = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in paths}
    return {module.removesuffix(".__init__"): path for module, path in dotted.items()}


def graph_of_files() -> dict[str, set[str]]:
    """Return which modules each module imports."""
    files = files_by_module()
    graph: dict[str, set[str]] = {}
    for importer, path in files.items():
        found = {
            f"{module}.{name}" if f"{module}.{name}" in files else module
            for module, name in imports(path.read_text("utf-8"))
        }
        # The public names of `lifemask` itself are loaded on first use.
        graph[importer] = {module for module in found & set(files) if module != "lifemask"}
    return graph


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


def test_no_package_imports_what_another_keeps_private() -> None:
    wrong = {
        str(path.relative_to(SOURCE)): found
        for package in LEVEL
        for path in sorted((SOURCE / "lifemask" / package).rglob("*.py"))
        if (found := private(package, path.read_text("utf-8")))
    }
    assert wrong == {}


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(graph_of_files()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


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


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("from lifemask.rendering._backends._jit import kernel", False),
        ("from lifemask.rendering.uv import _bands", False),
        ("import lifemask.rendering._backends", False),
        ("from lifemask.rendering.uv import unwrap_photo", True),
        ("from lifemask.data.wearables._torch import OPAQUE", True),
        ("from lifemask import __version__", True),
        ("from numpy import _globals", True),
    ],
)
def test_private_names_are_found(line: str, allowed: bool) -> None:
    assert (private("data", line) == []) is allowed
