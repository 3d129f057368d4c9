"""What Snakemake would make again is asked where there is something to ask about; the rest in tests/workflow."""

from pathlib import Path

import pytest

from sharpminima.base.files import write_text
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config
from sharpminima.tracking import _due, due, set_aside, stale

ROOT = Path(__file__).parents[2]
HEAD = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Layout) -> list[tuple[str, ...]]:
    """The questions to a Snakemake that would draw the numbers again."""
    questions: list[tuple[str, ...]] = []

    def answer(_: Layout, *arguments: str) -> str:
        questions.append(arguments)
        rows = [
            f"{tiny.table('results')}\t-\ttable\t-\tok\tno update",
            f"{tiny.numbers()}\t-\tn\t-\tok\tupdate pending",
        ]
        return "\n".join(["Building DAG of jobs...", HEAD, *rows])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_due, "snakemake", answer)
    return questions


@pytest.fixture
def tiny() -> Layout:
    """The tiny study, of which nothing is there."""
    return Layout(*load_config({"study": str(ROOT / "tests/studies/tiny.yaml")}))


def test_nobody_is_asked_of_what_is_not_there(asked: list[tuple[str, ...]], tiny: Layout) -> None:
    write_text("Snakefile", "")
    assert due(tiny) is None
    assert stale(tiny, [tiny.numbers()]) is None
    assert asked == []


def test_nobody_is_asked_where_there_are_no_rules_and_no_snakemake(
    asked: list[tuple[str, ...]], tiny: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tiny.numbers(), "{}")
    assert due(tiny) is None
    write_text("workflow/Snakefile", "")
    monkeypatch.setattr(_due, "find_spec", lambda _: None)
    assert due(tiny) is None
    assert asked == []


def test_what_is_pending_and_read_is_named(asked: list[tuple[str, ...]], tiny: Layout) -> None:
    write_text("Snakefile", "")
    write_text(tiny.table("results"), "")
    assert due(tiny) == {tiny.numbers()}
    assert stale(tiny, [tiny.table("results"), tiny.numbers()]) is None, "what is not there is read by nobody"
    write_text(tiny.numbers(), "{}")
    said = stale(tiny, [tiny.table("results"), tiny.numbers(), tiny.numbers()])
    assert said is not None
    assert said.startswith(f"{tiny.numbers()}: not of the study tiny as it is now")
    assert stale(tiny, [tiny.table("results")]) is None


def test_a_cell_is_set_aside_whole(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("checkpoint.safetensors", "history.csv")]
    second = [tmp_path / f".{path.name}.before.part" for path in paths]
    for text in ("first", "second"):
        for path in paths:
            path.unlink(missing_ok=True)
            write_text(path, text)
        set_aside(map(str, paths))
        assert [path.read_text() for path in second] == [text, text]
    for path in paths:
        path.unlink()  # by Snakemake, of a run that was killed then
    write_text(paths[0], "third")
    set_aside(map(str, paths))
    assert [path.read_text() for path in second] == ["second", "second"], "they stay as they are, and together"
