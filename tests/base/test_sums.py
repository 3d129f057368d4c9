"""Tables that were cut off or edited after they were made are not read."""

from pathlib import Path

import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import sha256_file, write_csv, write_json, write_text
from sharpminima.base.sums import check_sum, note_sum, write_table
from sharpminima.catalogue.columns import BARRIER_COLUMNS
from sharpminima.report import paper, tables

TABLE = Path("results/s/analysis/barrier/seed-0.csv")
ROWS = [dict.fromkeys(BARRIER_COLUMNS, 1), dict.fromkeys(BARRIER_COLUMNS, 2)]


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".snakemake").mkdir()


def record(path: Path) -> None:
    job = {"outputs": {str(path): sha256_file(path)}}
    write_json("results/s/analysis/record.json", {"format": 1, "jobs": [job]})


def edits(path: Path) -> list[str]:
    """A cut at the end of a row, and another digit."""
    text = path.read_text()
    return ["".join(text.splitlines(keepends=True)[:-1]), text.replace("2", "3")]


@pytest.mark.parametrize("known", ["noted", "recorded"])
@pytest.mark.parametrize("edit", [0, 1], ids=["cut", "digit"])
def test_an_edited_table_is_refused(known: str, edit: int) -> None:
    if known == "noted":
        write_table(TABLE, ROWS, BARRIER_COLUMNS)
    else:
        write_csv(TABLE, ROWS, BARRIER_COLUMNS)
        record(TABLE)
    assert len(tables.read_table("barrier", TABLE)) == 2
    TABLE.write_text(edits(TABLE)[edit])
    for path in (TABLE, TABLE.absolute()):
        with pytest.raises(SharpminimaError, match=r"seed-0\.csv: was cut off or edited after it was made"):
            tables.read_table("barrier", path)


def test_what_is_made_again_or_brought_back_is_read() -> None:
    write_table(TABLE, ROWS[:1], BARRIER_COLUMNS)
    write_table(TABLE, ROWS, BARRIER_COLUMNS)
    check_sum(TABLE)
    first = TABLE.read_text()
    record(TABLE)
    write_table(TABLE, ROWS[:1], BARRIER_COLUMNS)  # other settings
    check_sum(TABLE)
    TABLE.write_text(first)  # an older commit
    check_sum(TABLE)


def test_a_table_that_nobody_has_noted_is_read() -> None:
    write_csv("mine.csv", ROWS, BARRIER_COLUMNS)
    Path("mine.csv").write_text(edits(Path("mine.csv"))[0])
    assert len(tables.read_table("barrier", "mine.csv")) == 1
    Path(".snakemake").rmdir()
    write_table("other.csv", ROWS, BARRIER_COLUMNS)
    assert sorted(path.name for path in Path().iterdir()) == ["mine.csv", "other.csv"]


def test_edited_numbers_and_events_are_refused() -> None:
    for path, read in (
        ("numbers.json", lambda: paper.compile_paper("paper.typ", "numbers.json", [], "out.pdf")),
        ("events.json", lambda: tables.path("events.json")),
    ):
        write_text(path, "[1]")
        note_sum(path)
        write_text(path, "[2]")
        with pytest.raises(SharpminimaError, match=rf"{path}: was cut off or edited"):
            read()


def test_a_record_that_is_none_is_named() -> None:
    write_csv(TABLE, ROWS, BARRIER_COLUMNS)
    for content, said in (("{", "is not JSON"), ("[]", "is no record of a stage; `dvc pull --force")):
        write_text("results/s/analysis/record.json", content)
        with pytest.raises(SharpminimaError, match=rf"record\.json: {said}"):
            check_sum(TABLE)
