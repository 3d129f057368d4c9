"""The examples in docstrings run, and the names that a reader looks up first have one."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from sharpminima import analysis, pruning
from sharpminima.nets import checkpoint, models

SRC = Path(__file__).parents[1] / "src"
MODULES = [
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SRC.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    ran = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert ran.attempted > 0
    assert ran.failed == 0


def functions(module: ModuleType) -> list[str]:
    """Public functions that a module offers: those of ``__all__``, or those that it defines."""
    offered = getattr(module, "__all__", None)
    return [
        name
        for name, value in inspect.getmembers(module, inspect.isfunction)
        if (name in offered if offered else value.__module__ == module.__name__ and not name.startswith("_"))
    ]


@pytest.mark.parametrize("module", [analysis, checkpoint, models], ids=lambda module: module.__name__)
def test_public_functions_have_an_example(module: ModuleType) -> None:
    names = functions(module)
    assert names
    for name in names:
        home = inspect.getmodule(getattr(module, name))
        assert home is not None
        shown = [example.source for test in doctest.DocTestFinder().find(home) for example in test.examples]
        assert any(f"{name}(" in source for source in shown), f"{name} has no example"


def test_methods_have_an_example() -> None:
    assert "METHODS[" in (pruning.__doc__ or "")
