"""A digest of the source files that a module imports and of the assets that they load."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of lifemask."""


def code_fingerprint(
    module: str, *, assets: tuple[str, ...] | None = None, package: Path = PACKAGE
) -> str:
    """Return a digest that changes whenever the code or data of a module change.

    Args:
        module: full name, such as "lifemask.evaluation.systems.landmarks".
        assets: folders under `assets/` to include; None: those named in the module's code.
        package: folder of the package.

    Raises:
        ValueError: there is no such module.
    """
    modules = reached_modules(module, package)
    folders = asset_folders(modules, package) if assets is None else assets
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(f"{name}\n".encode())
        digest.update(hashlib.sha256(modules[name].read_bytes()).digest())
    for folder in sorted(folders):
        for path in sorted((package / "assets" / folder).rglob("*")):
            if path.is_file() and not path.name.endswith(".card.json"):
                digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
                status = path.stat()
                digest.update(_contents(path, status.st_mtime_ns, status.st_size))
    return digest.hexdigest()[:16]


def reached_modules(module: str, package: Path = PACKAGE) -> dict[str, Path]:
    """Return the modules of the package that a module imports, itself included, by full name.

    The source is read, not run. Imports in functions and under TYPE_CHECKING count too. Imports are:
    import statements, with all parent packages; a string that is the full name of a module or of a
    name in it ("lifemask.x.y", "lifemask.x.y:Name"); and an f-string that begins with a package
    ("lifemask.x.{name}"), which means all its modules. A module with a `__getattr__` imports its
    public names on first use, so only the names that other modules use are followed.

    Args:
        module: full name.
        package: folder of the package; its name is the first part of all full names.

    Raises:
        ValueError: there is no such module.
    """
    if _file(module, package) is None:
        raise ValueError(f"There is no module {module!r} under {package}.")
    found: dict[str, Path] = {}
    waiting, followed = [module], {module}
    while waiting:
        parts = waiting.pop().split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            path = _file(name, package)
            if path is None:
                break
            code = _references(path.read_bytes(), name, path.name == "__init__.py")
            names: set[str] = set()
            if name not in found:
                found[name] = path
                names |= code.names
                names |= {m for p in code.whole_packages for m in _modules_in(p, package)}
            if length < len(parts) and parts[length] in code.lazy:
                names.add(code.lazy[parts[length]])
            waiting += names - followed
            followed |= names
    return found


def asset_folders(modules: dict[str, Path], package: Path = PACKAGE) -> set[str]:
    """Return the folders under `assets/` that modules name as `"FOLDER/..."` or `path / "FOLDER"`."""
    named = {
        folder
        for name, path in modules.items()
        for folder in _references(path.read_bytes(), name, path.name == "__init__.py").folders
    }
    return {path.name for path in (package / "assets").iterdir() if path.is_dir()} & named


@dataclass(frozen=True)
class _References:
    """The names in the source of one module."""

    names: frozenset[str]
    """Full names of modules and of names in modules."""
    whole_packages: frozenset[str]
    """Packages with modules that may all be imported."""
    lazy: dict[str, str]
    """Full name of each name that the module imports on first use."""
    folders: frozenset[str]
    """Strings that may be folders."""


@lru_cache(maxsize=1024)
def _references(source: bytes, module: str, is_package: bool) -> _References:
    tree = ast.parse(source)
    top = module.partition(".")[0]
    is_lazy = any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body)
    names: set[str] = set()
    whole_packages: set[str] = set()
    lazy: dict[str, str] = {}
    folders: set[str] = set()
    full_name = re.compile(rf"{top}(\.\w+)+(:\w+)?")
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                home = _home(node, module, is_package)
                names.update(f"{home}.{alias.name}" for alias in node.names)
            case ast.Attribute():
                names.update(_dotted(node))
            case ast.Dict() if is_lazy:
                pairs = zip(node.keys, node.values, strict=True)
                lazy.update({_text(k): f"{_text(v)}.{_text(k)}" for k, v in pairs if _text(v)})
            case ast.Constant(value=str(text)):
                if full_name.fullmatch(text):
                    names.add(text.replace(":", "."))
                if "/" in text:
                    folders.add(text.partition("/")[0])
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                if text.endswith(".") and full_name.fullmatch(text[:-1]):
                    whole_packages.add(text[:-1])
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(text))):
                folders.add(text)
            case _:
                pass
    ours = {name for name in names if name.partition(".")[0] == top}
    return _References(
        frozenset() if is_lazy else frozenset(ours),
        frozenset(whole_packages),
        lazy,
        frozenset(folders),
    )


def _home(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the full name of the module that a `from` statement imports from."""
    if node.level == 0:
        return node.module or ""
    up = node.level - 1 if is_package else node.level
    parts = module.split(".")[: len(module.split(".")) - up]
    return ".".join([*parts, node.module] if node.module else parts)


def _dotted(node: ast.Attribute) -> Iterator[str]:
    """Yield `a.b.c` if an expression is a dotted name."""
    parts: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    if isinstance(value, ast.Name):
        yield ".".join([value.id, *reversed(parts)])


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _file(module: str, package: Path) -> Path | None:
    """Return the source file of a module; None if the name is not a module but, say, a class."""
    top, *rest = module.split(".")
    if top != package.name:
        return None
    base = package.joinpath(*rest)
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return None


def _modules_in(name: str, package: Path) -> Iterator[str]:
    folder = package.joinpath(*name.split(".")[1:])
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        yield ".".join([package.name, *parts]).removesuffix(".__init__")


@lru_cache(maxsize=256)
def _contents(path: Path, modified_ns: int, size: int) -> bytes:
    """Return the digest of a file; it is read again only if its time or size has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
