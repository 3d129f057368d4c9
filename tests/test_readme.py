"""What the README promises: it is short, its example runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(README.encode()) <= 6_000


def test_its_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"PSP-entropy [\d.]+ bits\nlargest eigenvalue [\d.]+\n", capsys.readouterr().out)


@pytest.mark.parametrize("page", sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md")}), ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    lost = [target for target in targets if ":" not in target and not (page.parent / target).exists()]
    assert lost == []
