"""What a module offers: functions, classes with their fields, and constants, from docstrings and comments."""

import ast
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import sharpminima
from site_pages.text import prose

PAGES = {
    "sharpminima.analysis": "analysis",
    "sharpminima.pruning": "pruning",
    "sharpminima.nets.checkpoint": "checkpoint",
    "sharpminima.models": "models",
    "sharpminima.data": "data",
    "sharpminima.testing": "testing",
    "sharpminima.base.errors": "errors",
    "sharpminima.catalogue.methods": "plugin-entries",
    "sharpminima.catalogue.methods.search": "plugin-entries",
    "sharpminima.catalogue.models": "plugin-entries",
    "sharpminima.catalogue.datasets": "plugin-entries",
    "sharpminima.catalogue.analyses": "plugin-entries",
    "sharpminima.catalogue.figures": "plugin-entries",
}
"""Module -> the page of docs/reference that shows what it offers."""
_HOMES = {"sharpminima.nets.models": "sharpminima.models"}
"""Module that the top level takes names from -> its public face."""


def home_of(name: str) -> str:
    """The full name under which the site shows a name of the top level."""
    module = next(module for module, names in sharpminima._NAMES.items() if name in names)
    return f"{_HOMES.get(module, module)}.{name}"


def names() -> str:
    """A table of the names of the top level, each with its first sentence."""
    rows = [".. list-table::", "   :header-rows: 1", "   :widths: 35 65", "", "   * - name", "     - what it is"]
    for name in sorted(set(sharpminima.__all__) - {"__version__"}):
        full = home_of(name)
        rows += [f"   * - :py:obj:`{name} <{full}>`", f"     - {_sentence(full)}"]
    return "\n".join(rows)


def public(module: str, *chosen: str) -> str:
    """Directives of autodoc for what a module offers (``__all__``), or for the chosen names of it."""
    imported = importlib.import_module(module)
    parts = []
    for name in chosen or sorted(imported.__all__, key=lambda name: (_rank(getattr(imported, name)), name)):
        value, full = getattr(imported, name), f"{module}.{name}"
        if inspect.isclass(value):
            parts.append(f".. autoclass:: {full}\n   :members:{_hidden(value)}\n\n{_indented(fields(value))}")
        elif inspect.isfunction(value):
            parts.append(f".. autofunction:: {full}\n")
        else:
            parts.append(f".. py:data:: {full}\n\n{_indented(prose(constant_doc(module, name)))}\n")
    return "\n".join(parts)


def _rank(value: Any) -> int:
    return 0 if inspect.isfunction(value) else 1 if inspect.isclass(value) else 2


def _sentence(full: str) -> str:
    module, _, name = full.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    is_code = inspect.isclass(value) or inspect.isfunction(value)
    said = inspect.getdoc(value) if is_code else constant_doc(module, name)
    return prose((said or "").partition("\n\n")[0])


def _indented(text: str) -> str:
    return "".join(f"   {line}".rstrip() + "\n" for line in text.splitlines())


def _hidden(value: type[Any]) -> str:
    """Option that leaves out the fields, which have a table, and pydantic's own."""
    own = [
        name for name in (*_field_names(value), "model_config") if not isinstance(value.__dict__.get(name), property)
    ]
    return f"\n   :exclude-members: {', '.join(own)}"


def _field_names(value: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return list(getattr(value, "model_fields", {}))


def fields(value: type[Any]) -> str:
    """The fields of a dataclass as a list: type, and the comment that stands behind it or above it."""
    if not dataclasses.is_dataclass(value):
        return ""
    return "".join(
        f"* ``{name}`` (``{annotation}``)" + (f": {prose(comment)}" if comment else "") + "\n"
        for name, annotation, comment in _stated(value)
    )


def _stated(value: type[Any]) -> Iterator[tuple[str, str, str]]:
    above: list[str] = []
    for line in inspect.getsource(value).splitlines():
        if match := re.fullmatch(r"    # (.*)", line):
            above.append(match[1])
        elif match := re.fullmatch(r"    (\w+): ([^#=]+?)(?: = [^#]*)?(?:  # (.*))?", line):
            yield match[1], match[2].strip(), match[3] or " ".join(above)
            above = []
        else:
            above = []


def constant_doc(module: str, name: str) -> str:
    """The text that stands below a constant where it is made.

    Raises:
        LookupError: there is none; every public constant needs one.
    """
    value = getattr(importlib.import_module(module), name)
    loaded = [candidate for key, candidate in sys.modules.items() if key.startswith("sharpminima")]
    for candidate in loaded:
        if getattr(candidate, name, None) is value and (said := _below(candidate, name)):
            return inspect.cleandoc(said)
    raise LookupError(f"{module}.{name}: nothing says what it is; put a string below it")


def _below(module: ModuleType, name: str) -> str | None:
    if module.__file__ is None:
        return None
    body = ast.parse(inspect.getsource(module)).body
    for statement, after in pairwise(body):
        target = getattr(statement, "target", None) or next(iter(getattr(statement, "targets", ())), None)
        if isinstance(target, ast.Name) and target.id == name and isinstance(after, ast.Expr):
            return ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else None
    return None
