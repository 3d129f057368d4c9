"""The rooms of the package: imports run one way, and public names stay where they are."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sharpminima

PACKAGE = Path(sharpminima.__file__).parent
FAMILIES = (
    "pruning.scored",
    "pruning.iterative",
    "pruning.gradual",
    "pruning.dynamic",
    "pruning.penalty",
    "pruning.mask_learning",
    "pruning.structured",
    "pruning.path",
)
TRAINED = ("base", "catalogue", "runtime", "nets", "data", "training")
PRUNED = (*TRAINED, "pruning.engine")
MEASURED = ("base", "runtime", "nets", "analysis._inputs", "analysis._reduced", "analysis._results")
LOSSES = ("analysis._structure", "analysis._loss")
STEPS = (*PRUNED, "pruning", "study", *("analysis", "analysis.psp", "analysis.hessian", "analysis.plane"))
BELOW: dict[str, tuple[str, ...]] = {
    "base": (),
    "catalogue": ("base",),
    "study": ("base", "catalogue"),
    "runtime": ("base",),
    "nets": ("base", "catalogue", "runtime"),
    "data": ("base", "catalogue", "runtime"),
    "training": ("base", "catalogue", "runtime", "nets", "data"),
    "pruning.engine": TRAINED,
    **dict.fromkeys(FAMILIES, PRUNED),
    "pruning": (*PRUNED, *FAMILIES),
    "analysis._inputs": ("base", "nets"),
    "analysis._reduced": ("base", "nets"),
    "analysis._results": ("base", "nets"),
    "analysis.psp": MEASURED,
    "analysis._structure": (),
    "analysis._loss": ("base", "runtime", "nets", "analysis._inputs", "analysis._structure"),
    "analysis.hessian": (*MEASURED, *LOSSES),
    "analysis.plane": (*MEASURED, *LOSSES, "analysis.psp", "analysis.hessian"),
    "analysis": (*MEASURED, "analysis.psp", "analysis.hessian", "analysis.plane"),
    "testing": (*TRAINED, "pruning.engine"),
    "report": ("base", "catalogue", "study", "nets"),
    "figures": ("base", "catalogue", "study", "report"),
    "explore": ("base", "catalogue", "study", "report", "figures"),
    "tracking": ("base", "catalogue", "study", "nets"),
    "doctor": ("base", "catalogue", "runtime", "study", "data", "figures", "tracking"),
    "steps": STEPS,
    "cli": (*STEPS, "figures", "explore", "report", "tracking", "steps", "doctor"),
    "": ("cli", "nets"),
}
"""Room -> rooms that it may import from; "" holds the package's entry and the public faces of `nets`."""


def modules() -> dict[str, Path]:
    """Every module of the package without the package's name, and its file; "" is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports, those within functions too; not those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield from statements(node)


def imported(name: str, known: dict[str, Path]) -> set[str]:
    """The modules of the package that the module ``name`` imports."""
    found = set()
    for node in statements(ast.parse(known[name].read_text())):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{known[name]}: a relative import"
            asked = [f"{node.module}.{alias.name}" for alias in node.names]
        for full in asked:
            inside = full.removeprefix("sharpminima").removeprefix(".")
            if full.split(".")[0] == "sharpminima":
                found.add(inside if inside in known else inside.rpartition(".")[0])
    return found - {name, ""}  # every import runs the package's own __init__


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    known = modules()
    return {name: imported(name, known) for name in known}


def room_of(module: str) -> str:
    """The innermost room of a module; a module beside the rooms is in that of the package."""
    parts = module.split(".")
    names = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((name for name in names if name in BELOW), "")


def test_no_import_cycles(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_rooms_import_from_rooms_below(graph: dict[str, set[str]]) -> None:
    crossing = {
        f"{module} -> {other}"
        for module, others in graph.items()
        for other in others
        if room_of(other) not in (room_of(module), *BELOW[room_of(module)])
    }
    assert crossing == set()


def test_every_folder_is_a_room(graph: dict[str, set[str]]) -> None:
    beside = {module for module in graph if room_of(module) == ""}
    assert beside == {"", "__main__", "models", "checkpoint"}


def test_the_rooms_themselves_have_an_order() -> None:
    TopologicalSorter(BELOW).prepare()


def test_public_names() -> None:
    from sharpminima import analysis, checkpoint, models, nets, pruning

    assert models.build_model is nets.models.build_model
    assert checkpoint.load_checkpoint is nets.checkpoint.load_checkpoint
    assert {"psp_entropy", "hessian_eigenvalues", "loss_surface"} <= set(analysis.__all__)
    assert "lobster" in pruning.METHODS
