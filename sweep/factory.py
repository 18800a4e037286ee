"""Python of the user's own that makes a model or a data set: FILE:NAME, found, named by its content, and imported.

Nothing is imported but what a setting names, and only when it is needed; its content is known without that.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sweep.errors import UserError, unknown

_INSTALLED = frozenset(("site-packages", "dist-packages", "lib-dynload"))  # folders whose imports are not followed


class Place(NamedTuple):
    """Where a module lies: its file, its dotted name, and the folder in which that begins."""

    file: Path
    module: str
    root: Path


def content(setting: str, spec: str) -> str:
    """Return 12 digits that change with the file of FILE:NAME, and with those of the same folder that it imports.

    setting: such as model.factory, for errors. raises: UserError if there is no such file.
    """
    return _digest(_files(_find(setting, spec)))


def made(setting: str, spec: str, expected: str | None = None) -> Callable[..., Any]:
    """Return what FILE:NAME names; its module is imported. expected: its content(), where that must not have changed.

    raises: UserError, in one line, if there is no such file or name, if the import fails, or if the content changed.
    """
    place = _find(setting, spec)
    files = _files(place)
    now = _digest(files)
    if expected not in (None, now):
        raise UserError(f"{setting}={spec}: {place.file.name} has changed since the sweep began; run the command again")
    module = _imported(setting, spec, place, files, now)
    name = spec.partition(":")[2]
    found = getattr(module, name, None)
    if found is None:
        public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise unknown(setting, spec, [f"{spec.partition(':')[0]}:{each}" for each in public[:20]] or ["none"])
    if not callable(found):
        raise UserError(f"{setting}={spec}: {name} is a {type(found).__name__}; name a function or a class")
    result: Callable[..., Any] = found
    return result


@contextmanager
def one_line(setting: str, spec: str, doing: str) -> Iterator[None]:
    """Make whatever the user's code raises in this block a UserError that says where. doing: such as build()."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{setting}={spec}: {doing} raised {_said(error)}") from error


def arguments(
    setting: str, spec: str, function: Callable[..., Any], given: dict[str, Any], needed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return those of the given arguments that the function names, and of the needed ones those without a default.

    raises: UserError if it must have others.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a class that is made in C
        return {}
    found = {}
    for each in parameters:
        must = each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        known = given | (needed or {} if must else {})
        if each.name in known and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            found[each.name] = known[each.name]
        elif must:
            others = " and ".join([*given, *(needed or {})])
            needs = f"every argument but {others} needs a default" if others else "every argument needs a default"
            raise UserError(f"{setting}={spec}: cannot be called without {each.name}; {needs}")
    return found


def _said(error: BaseException) -> str:
    """Return the error and the line of the file in which it arose, in one line."""
    frame, line = error.__traceback__, ""
    while frame is not None:
        if frame.tb_frame.f_code.co_filename != __file__ and "<frozen" not in frame.tb_frame.f_code.co_filename:
            line = f" ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})"
        frame = frame.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{line}"


def _find(setting: str, spec: str) -> Place:
    """Return where FILE:NAME lies: below the working folder, else wherever Python finds modules."""
    file, _, name = spec.partition(":")
    module = file.removesuffix(".py").replace("/", ".").removeprefix("..") if file.endswith(".py") else file
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise UserError(
            f"{setting}={spec}: use FILE:NAME, such as my_file:build for build() in my_file.py of the working folder"
        )
    parts = module.split(".")
    roots = [Path.cwd()]
    if (found := _in(roots[0], parts)) is None:
        top = None if parts[0] in sys.builtin_module_names else importlib.util.find_spec(parts[0])
        origins = (
            [] if top is None else [*(top.submodule_search_locations or ()), *([top.origin] if top.origin else [])]
        )
        roots = [Path(each).parent for each in origins]
        found = next((each for root in roots if (each := _in(root, parts))), None)
    if found is None:
        raise UserError(
            f"{setting}={spec}: there is no {'/'.join(parts)}.py in {Path.cwd()}, and no module {module} is installed"
        )
    return Place(found, module, next(root for root in roots if root in found.parents))


def _in(root: Path, parts: list[str]) -> Path | None:
    path = root.joinpath(*parts)
    return next((each for each in (path.with_name(f"{path.name}.py"), path / "__init__.py") if each.is_file()), None)


def _files(place: Place) -> dict[str, bytes]:
    """Return the content of the module's file and of all below the same folder that it imports, by dotted name.

    Of an installed package it is that file alone.
    """
    found: dict[str, bytes] = {}
    left = [(place.module, place.file)]
    while left:
        module, file = left.pop()
        if module in found:
            continue
        found[module] = file.read_bytes()
        if not _INSTALLED & {*file.parts}:
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            names = {each for each in _imports(found[module], package) if each.partition(".")[0] != "sweep"}
            left += [(name, path) for name in names if (path := _in(place.root, name.split(".")))]
    return found


def _imports(source: bytes, package: str) -> set[str]:
    """Return the dotted names of what this source imports, with their packages; of `from a import b`, a and a.b."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # the import will say so
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{each.name}" for each in node.names)}
    return {".".join(name.split(".")[: end + 1]) for name in names if name for end in range(name.count(".") + 1)} - {""}


def _digest(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:12]


_contents: dict[str, str] = {}  # of the modules that were imported here: what they were then


def _imported(setting: str, spec: str, place: Place, files: dict[str, bytes], now: str) -> Any:
    """Return the module, imported anew where its files are others than they were in this process."""
    if _contents.get(place.module, now) != now:
        for name in files:
            sys.modules.pop(name, None)
    if str(place.root) not in sys.path:
        sys.path.insert(0, str(place.root))
    importlib.invalidate_caches()
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of a file that changes within a second, too
    try:
        with one_line(setting, spec, f"importing {place.file.name}"):
            module = importlib.import_module(place.module)
    finally:
        sys.dont_write_bytecode = before
    if Path(getattr(module, "__file__", None) or "").resolve() != place.file.resolve():
        raise UserError(
            f"{setting}={spec}: Python has another module {place.module}; give {place.file.name} another name"
        )
    _contents[place.module] = now
    return module
