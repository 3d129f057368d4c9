"""The page docs/plugins.md as files: its blocks, each under the name of the file that it is a part of."""

import re
from pathlib import Path

import nbformat

PAGE = Path(__file__).parents[1] / "docs/plugins.md"
NOTEBOOK = "norms.ipynb"


def blocks() -> dict[str, list[str]]:
    """Name of a file -> its blocks, in the order of the page."""
    found: dict[str, list[str]] = {}
    for name, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        found.setdefault(name, []).append(text)
    return found


def entries() -> str:
    """The file of the page without its list of entries."""
    *parts, listed = blocks()["mine.py"]
    assert listed.startswith("SHARPMINIMA = [")
    return "\n\n".join(parts)


def listing(*names: str) -> str:
    """A file that brings some of the page's entries."""
    return f"{entries()}\n\nSHARPMINIMA = [{', '.join(names)}]\n"


def write_beside_a_study(folder: Path) -> Path:
    """The page's file, its notebook and its study; returns the study."""
    (folder / "mine.py").write_text("\n\n".join(blocks()["mine.py"]))
    (folder / "mine.yaml").write_text(blocks()["mine.yaml"][0])
    write_notebook(folder)
    return folder / "mine.yaml"


def write_package(folder: Path) -> Path:
    """The page's package."""
    module = folder / "mine"
    module.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(blocks()["pyproject.toml"][0])
    (module / "__init__.py").write_text(entries())
    write_notebook(module)
    return folder


def write_notebook(folder: Path) -> None:
    """The notebook of the page's figure."""
    cells = [nbformat.v4.new_code_cell(source) for source in blocks()[NOTEBOOK]]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / NOTEBOOK)
