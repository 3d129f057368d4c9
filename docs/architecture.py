"""Write docs/architecture.md: which part of the package imports which, read from the imports themselves.

A part is a package or a module directly under ``src/sharpminima``. Its floor is one above the highest that it imports.
A test holds the file to the imports; ``make docs`` writes it anew.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
PACKAGE = "sharpminima"

_TEXT = """\
# Architecture

<!-- Written by docs/architecture.py: `make docs`. Edit that, or the docstrings that the table quotes. -->

`src/sharpminima` is a library, and the steps of a pipeline on top of it. Snakemake owns the order of the steps and runs
each through the command line; DVC keeps their results. Imports go downwards only: a part stands on the floor above the
highest part that it imports, so that what stands lower can be read, tested and used without what stands above it. The
picture is drawn from the imports. An arrow points at what is imported; where there is a longer way, it is left out.

```mermaid
flowchart TD
{picture}
```

| floor | part | what it is for |
| --- | --- | --- |
{table}

Around it: `Snakefile` and `workflow/` hold the rules and the studies, `notebooks/` a notebook a figure, `paper/` the
report and the claims, `profiles/` how to run on one machine or a cluster, `benchmarks/` what is timed,
`src/snakemake_logger_plugin_sharpminima` the bars of a run.
"""


def imports(folder: Path) -> dict[str, set[str]]:
    """Part -> the other parts that it imports, anywhere in it; the package's own ``__init__`` is none.

    Args:
        folder: of the package.
    """
    graph: dict[str, set[str]] = {}
    parts = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    for path in sorted(folder.rglob("*.py")):
        part = path.relative_to(folder).parts[0].removesuffix(".py")
        if not part.startswith("__"):
            graph.setdefault(part, set()).update((set(_imported(path)) & parts) - {part})
    return graph


def _imported(path: Path) -> Iterator[str]:
    """The parts that a file names in its imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}."))


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Part -> its floor, the lowest 0.

    Raises:
        ValueError: parts import each other in a circle.
    """
    floor_of: dict[str, int] = {}
    while len(floor_of) < len(graph):
        ready = {part for part, below in graph.items() if part not in floor_of and below <= floor_of.keys()}
        if not ready:
            raise ValueError(f"these import each other, or one that does: {', '.join(sorted(graph.keys() - floor_of))}")
        floor_of |= {part: 1 + max((floor_of[other] for other in graph[part]), default=-1) for part in ready}
    return floor_of


def page(folder: Path) -> str:
    """The text of docs/architecture.md."""
    graph = imports(folder)
    floor = floors(graph)
    ordered = sorted(graph, key=lambda part: (-floor[part], part))
    arrows = [f"    {part} --> {other}" for part in ordered for other in sorted(_nearest(part, graph))]
    rows = [f"| {floor[part]} | `{part}` | {_purpose(folder, part)} |" for part in ordered]
    return _TEXT.format(picture="\n".join(arrows), table="\n".join(rows))


def _nearest(part: str, graph: Mapping[str, set[str]]) -> set[str]:
    """What a part imports, less what it reaches through another import."""
    return graph[part] - {far for other in graph[part] for far in _reached(other, graph)}


def _reached(part: str, graph: Mapping[str, set[str]]) -> set[str]:
    return graph[part] | {far for other in graph[part] for far in _reached(other, graph)}


def _purpose(folder: Path, part: str) -> str:
    """The first paragraph of a part's docstring."""
    path = folder / part / "__init__.py" if (folder / part).is_dir() else folder / f"{part}.py"
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(ROOT / "src" / PACKAGE))
