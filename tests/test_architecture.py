"""docs/architecture.md says what the imports say, and these go one way."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("architecture", ROOT / "docs/architecture.py")
architecture = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(architecture)


def test_the_page_is_what_the_imports_say() -> None:
    made = architecture.page(ROOT / "src/sharpminima")
    assert architecture.PAGE.read_text() == made, "`make docs` writes it anew"


@pytest.mark.slow
def test_every_part_says_what_it_is_for() -> None:
    rows = [line for line in architecture.PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(architecture.imports(ROOT / "src/sharpminima"))
    assert [row for row in rows if row.endswith("|  |")] == []


def test_parts_stand_above_what_they_import(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "data").mkdir()  # a folder that is no package
    (tmp_path / "__init__.py").write_text("from sharpminima.nets import build\n")
    (tmp_path / "nets/__init__.py").write_text('"""The nets,\nby name.\n\nMore."""\nimport sharpminima.errors\n')
    (tmp_path / "errors.py").write_text('"""What goes wrong."""\n')
    (tmp_path / "cli.py").write_text(
        '"""Commands."""\nimport torch\n\ndef run():\n    from sharpminima import errors, nets\n'
    )
    graph = architecture.imports(tmp_path)
    assert graph == {"nets": {"errors"}, "errors": set(), "cli": {"errors", "nets"}}
    assert architecture.floors(graph) == {"errors": 0, "nets": 1, "cli": 2}
    page = architecture.page(tmp_path)
    assert "cli --> nets\n    nets --> errors\n```" in page  # what cli takes of errors has a longer way
    assert "| 1 | `nets` | The nets, by name. |" in page
    (tmp_path / "errors.py").write_text("import sharpminima.cli\n")
    with pytest.raises(ValueError, match="import each other, or one that does: cli, errors, nets"):
        architecture.floors(architecture.imports(tmp_path))
