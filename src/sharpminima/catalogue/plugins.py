"""Entries that others bring: installed packages by entry points, and files beside a study.

A package names its entries in the groups of `GROUPS`; a file holds a list ``SHARPMINIMA`` of them. What a file brings
is known as long as it is in use: the study that is read next has its own, and none of the others'.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from sharpminima.base.errors import ConfigError, PluginError
from sharpminima.catalogue.analyses import ANALYSES, Analysis
from sharpminima.catalogue.brought import BROUGHT, MODULES, Plugin, bringing, in_use, is_fault, raised_by
from sharpminima.catalogue.datasets import DATASETS, Dataset
from sharpminima.catalogue.figures import FIGURES, Figure
from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.models import MODELS, Model
from sharpminima.catalogue.registry import Registry

__all__ = [
    "GROUPS",
    "NAME",
    "PATTERNS",
    "RESERVED",
    "Plugin",
    "bringing",
    "in_use",
    "register_installed",
    "use",
    "use_stated",
]

NAME = "SHARPMINIMA"
"""The list of entries in a plug-in's file."""
PATTERNS = {
    "dataset": "[a-z0-9-]+",
    "model": "[a-z0-9-]+",  # in a study a label may stand behind it (`sharpminima.catalogue.models`)
    "method": "[a-z0-9_]+",
    "analysis": "[a-z][a-z0-9_]*",
    "figure": "[a-z][a-z0-9_]*",
}
"""Kind -> what its names are made of: they are wildcards of paths; analyses and figures are options and rules too."""
RESERVED = {
    "method": ("dense", "init"),
    **dict.fromkeys(
        ("analysis", "figure"),
        (
            *("all", "analyse", "analyse_large", "analysis", "claims", "data", "dense", "doctor", "explore", "figure"),
            *("init", "measures", "methods", "numbers", "paper", "plan", "prepare", "provenance", "prune", "ranking"),
            *("record", "restore", "results", "retrain", "runs", "schema", "settings", "studies", "table", "track"),
            *("transfer", "transfer_dense", "tune-entropy"),
            *("tune", "published", "density", "copy", "json", "dict", "construct", "validate"),
        ),
    ),
}
"""Kind -> names that stand for something else: folders, rules, commands, tables, and what pydantic's models have."""


@dataclass(frozen=True)
class _Kind:
    entry: type[Any]
    registry: Registry[Any]


_KINDS = {
    "method": _Kind(Method, METHODS),
    "model": _Kind(Model, MODELS),
    "dataset": _Kind(Dataset, DATASETS),
    "analysis": _Kind(Analysis, ANALYSES),
    "figure": _Kind(Figure, FIGURES),
}
GROUPS = {
    "sharpminima.methods": "method",
    "sharpminima.models": "model",
    "sharpminima.datasets": "dataset",
    "sharpminima.analyses": "analysis",
    "sharpminima.figures": "figure",
}
"""Group of entry points -> kind of its entries."""


_FILE = re.compile(r"(?P<path>.+)@(?P<sha256>[0-9a-f]{64})")
_DISTRIBUTION = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)")


def use(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Have the entries of these files, and of no others, beside the built-in ones and those that are installed.

    Raises:
        ConfigError: a file is missing, raises, has no list of entries, or one with a name that it cannot have; then no
            file is in use.
    """
    register_installed()
    _forget_files()
    try:
        for path in dict.fromkeys(Path(os.path.normpath(path)) for path in paths):
            plugin, module = _read(_from_here(path))
            _register(plugin, _entries_of(plugin.name, module))
    except ConfigError:
        _forget_files()
        raise


def use_stated(texts: Sequence[str]) -> None:
    """`use` as a command line states it: paths, with the SHA-256 that the file must have (``FILE@SHA256``), or none.

    ``NAME==VERSION`` states the version that an installed plug-in must have.

    Raises:
        ConfigError: as `use`; and a plug-in is another one than was stated.
    """
    stated = [text for text in texts if not _DISTRIBUTION.fullmatch(text)]
    matches = [_FILE.fullmatch(text) for text in stated]
    use(text if match is None else match["path"] for text, match in zip(stated, matches, strict=True))
    in_use_already = {str(plugin) for plugin in in_use()}
    for text in texts:
        if (_FILE.fullmatch(text) or _DISTRIBUTION.fullmatch(text)) and text not in in_use_already:
            raise ConfigError(
                f"--plugin: {text} was planned with, and another one is here now; run Snakemake again, which plans anew"
            )


def register_installed() -> None:
    """Add the entries of installed packages; once a process.

    Raises:
        ConfigError: one cannot be loaded, is no entry of its group's kind, or has a name that it cannot have.
    """
    _installed()


@cache
def _installed() -> None:
    entries: list[tuple[Plugin, Any]] = []
    points = entry_points()
    for group, kind in GROUPS.items():
        for point in sorted(points.select(group=group), key=lambda point: (point.dist is None, point.name)):
            assert point.dist is not None  # entry points of the environment have one
            plugin = Plugin(point.dist.name, point.dist.version, is_file=False)
            entries.append((plugin, _loaded(point, plugin, kind)))
    try:
        for plugin, entry in entries:
            _register(plugin, [entry])
    except ConfigError:
        _forget(list(BROUGHT))
        raise


def _loaded(point: EntryPoint, plugin: Plugin, kind: str) -> Any:
    where = f"{plugin.name} {plugin.version}: {point.group}: {point.name}"
    package = point.module.partition(".")[0]
    try:
        entry = point.load()
    except BaseException as error:
        if is_fault(error):
            raise PluginError(f"{where}: cannot be loaded ({raised_by(package, plugin, error)})") from error
        raise
    if not isinstance(entry, _KINDS[kind].entry):
        raise ConfigError(f"{where}: is {_what(entry)}; a {_KINDS[kind].entry.__name__} is needed")
    MODULES[package] = plugin
    return entry


def _from_here(path: Path) -> Path:
    """The path as it stands in settings: relative where the file lies below the current folder."""
    try:
        return path.resolve().relative_to(Path.cwd()) if path.is_absolute() else path
    except ValueError:
        return path


def _read(path: Path) -> tuple[Plugin, ModuleType]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); a plug-in's path starts at its study's folder"
        ) from error
    digest = hashlib.sha256(source).hexdigest()
    plugin = Plugin(str(path), digest, is_file=True)
    return plugin, _module(plugin, path.resolve(), source)


@cache
def _module(plugin: Plugin, place: Path, source: bytes) -> ModuleType:
    """The file as a module, run from the very bytes that were hashed; one with the same bytes is the same module."""
    identity = f"{place} {plugin.name} {plugin.version}"
    name = f"sharpminima_plugin_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = plugin.name
    MODULES[name] = plugin
    try:
        exec(compile(source, plugin.name, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if is_fault(error):
            raise PluginError(f"{plugin.name}: raises {raised_by(name, plugin, error)}") from error
        raise
    return module


def _entries_of(where: str, module: ModuleType) -> list[Any]:
    entries = getattr(module, NAME, None)
    kinds = ", ".join(kind.entry.__name__ for kind in _KINDS.values())
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"{where}: has no list {NAME}, such as {NAME} = [Method(...)]; it may hold {kinds}")
    for entry in entries:
        if _kind_of(entry) is None:
            raise ConfigError(f"{where}: {NAME} holds {_what(entry)}; it may hold {kinds}")
    return list(entries)


def _kind_of(entry: Any) -> str | None:
    return next((name for name, kind in _KINDS.items() if isinstance(entry, kind.entry)), None)


def _register(plugin: Plugin, entries: Iterable[Any]) -> None:
    for entry in entries:
        kind = _kind_of(entry)
        assert kind is not None  # was checked
        where, registry = f"{plugin.name}: {kind} {entry.name!r}", _KINDS[kind].registry
        if not isinstance(entry.name, str) or not re.fullmatch(PATTERNS[kind], entry.name):
            raise ConfigError(f"{where}: its name stands in paths; it must be of the form {PATTERNS[kind]}")
        if entry.name in RESERVED.get(kind, ()) or (kind == "figure" and entry.name.startswith("prune_")):
            raise ConfigError(f"{where}: the name stands for something else; choose another one")
        if entry.name in registry:
            other = BROUGHT.get((kind, entry.name))
            owner = "is a built-in one" if other is None else f"is brought by {other.name} too"
            raise ConfigError(f"{where}: {owner}; choose another name")
        registry.register(entry)
        BROUGHT[kind, entry.name] = plugin


def _forget_files() -> None:
    _forget([item for item, plugin in BROUGHT.items() if plugin.is_file])


def _forget(items: Iterable[tuple[str, str]]) -> None:
    for kind, name in items:
        del _KINDS[kind].registry[name]
        del BROUGHT[kind, name]


def _what(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r:.40}"
