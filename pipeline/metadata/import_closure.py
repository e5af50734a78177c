"""Finds the source files that a module loads, by reading `import` statements."""

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Collection, Iterator
from typing import NamedTuple


class _Import(NamedTuple):
    """An import of `module`, or of `attribute` from it; "*" stands for every attribute."""

    module: str
    attribute: str = "*"


class _Imports(NamedTuple):
    """The imports of one file.

    Attributes:
        top: those that run when the file is loaded.
        inner: those inside functions.
        lazy: `{attribute: import}` of the attributes that a package loads on first use. It is read
            from the imports for type checks, since the others name their modules by strings.
    """

    top: list[_Import]
    inner: list[_Import]
    lazy: dict[str, _Import]


def closure(modules: Collection[str], packages: Collection[str]) -> dict[str, pathlib.Path]:
    """Returns the source files of `modules` and of everything that they import.

    No module is loaded for this. Imports inside functions count, except in a package that is only
    on the way to a module. Imports under `if TYPE_CHECKING:` do not count, unless another module
    takes the name from a package that loads it on first use. An import by a computed name is not
    seen.

    Args:
        modules: full names of the modules to start from.
        packages: names of the top-level packages to follow.

    Returns:
        `{module: path}`, which includes the `__init__.py` of every package on the way.

    Raises:
        ModuleNotFoundError: one of `modules` has no source file.
    """
    for module in modules:
        if _path(module) is None:
            raise ModuleNotFoundError(f"no source file for module {module!r}", name=module)
    files: dict[str, pathlib.Path] = {}
    waiting = [_Import(module) for module in modules]
    visited = set()
    while waiting:
        statement = waiting.pop()
        if statement in visited or statement.module.partition(".")[0] not in packages:
            continue
        visited.add(statement)
        attribute_imports = _attribute_imports(statement)
        waiting += attribute_imports
        is_whole = statement.attribute == "*" or not attribute_imports
        for module in _with_parents(statement.module):
            path = _path(module)
            if path is None:
                continue
            imports = _imports(module, path)
            if module not in files:
                files[module] = path
                waiting += imports.top
            if module == statement.module and is_whole:
                waiting += imports.inner
    return files


def _attribute_imports(statement: _Import) -> list[_Import]:
    """Returns the imports behind the attribute: a submodule, or names that load on first use."""
    module, attribute = statement
    if attribute != "*" and _path(f"{module}.{attribute}") is not None:
        return [_Import(f"{module}.{attribute}")]
    path = _path(module)
    lazy = _imports(module, path).lazy if path is not None else {}
    if attribute == "*":
        return list(lazy.values())
    return [lazy[attribute]] if attribute in lazy else []


def _with_parents(module: str) -> list[str]:
    """Returns the packages around a module, and the module: `a.b` gives `a` and `a.b`."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _path(module: str) -> pathlib.Path | None:
    """Returns the source file of a module, or None where there is none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        return None
    if not rest:
        is_source = spec.origin is not None and spec.origin.endswith(".py")
        return pathlib.Path(str(spec.origin)) if is_source else None
    for folder in spec.submodule_search_locations or ():
        stem = pathlib.Path(folder, *rest)
        for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if path.is_file():
                return path
    return None


def _imports(module: str, path: pathlib.Path) -> _Imports:
    is_package = path.name == "__init__.py"
    return _parse(path.read_bytes(), module if is_package else module.rpartition(".")[0])


@functools.cache
def _parse(text: bytes, package: str) -> _Imports:
    """Returns the imports in the text of a file that belongs to `package`."""
    tree = ast.parse(text)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imports = _Imports([], [], {})
    for node, is_inner, is_typing in _statements(tree):
        for alias in node.names:
            if isinstance(node, ast.Import):
                statement = _Import(alias.name)
            else:
                statement = _Import(_absolute(node, package), alias.name)
            if not is_typing:
                (imports.inner if is_inner else imports.top).append(statement)
            elif "__getattr__" in functions:
                imports.lazy[alias.asname or alias.name] = statement
    return imports


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Returns the full name of the module that a `from` statement names."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _statements(
    node: ast.AST, is_inner: bool = False, is_typing: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Yields every import below `node`: (it, inside a function, under `if TYPE_CHECKING:`)."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, is_inner, is_typing
    is_inner = is_inner or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        children = getattr(node, field, ())
        if not isinstance(children, list):  # the body of a lambda
            continue
        guarded = field == "body" and isinstance(node, ast.If) and _is_type_checking(node.test)
        for child in children:
            yield from _statements(child, is_inner, is_typing or guarded)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
