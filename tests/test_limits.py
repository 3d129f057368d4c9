"""Each line of docs/limits.md names a test that is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_limit_is_held_by_a_test() -> None:
    text = (ROOT / "docs/limits.md").read_text()
    lines = [
        " ".join(line.split()) for line in re.split(r"^(?=- |## )", text, flags=re.MULTILINE) if line.startswith("- ")
    ]
    assert lines
    for line in lines:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert named, line
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
