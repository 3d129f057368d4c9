"""Three jobs, each from the one before: what Snakemake is told of files that DVC has put there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import sha256_file, write_json, write_text
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.study.read import load_config
from sharpminima.tracking import adopt, data_to_make_first, unnoted
from sharpminima.tracking._known import Known
from sharpminima.tracking._notes import Notes

STUDY = Path("tests/studies/tiny.yaml").resolve()
DATA, INIT = "results/tiny/data/digits.safetensors", "results/tiny/runs/init"
NET, TABLE = "results/tiny/runs/net", "results/tiny/analysis/table"
SECOND = 1_000_000_000


def entry(rule: str, inputs: list[str], output: str) -> dict[str, object]:
    return {
        "rule": rule,
        "params": [f"'{rule} settings'"],
        "input": inputs,
        "code": f"sharpminima {rule}",
        "shellcmd": f"sharpminima {rule} {output}",
        "inputs": {path: sha256_file(path) for path in inputs},
        "outputs": {output: sha256_file(output)},
    }


def set_time(path: str, seconds: int) -> None:
    os.utime(path, ns=(seconds * SECOND, seconds * SECOND))


def time_of(path: str) -> float:
    return Path(path).stat().st_mtime_ns / SECOND


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """Files as a pull leaves them: written last to first, no notes, no data."""
    found = Layout(*load_config({"study": str(STUDY)}))
    monkeypatch.chdir(tmp_path)
    for seconds, path in enumerate((TABLE, NET, INIT, DATA), start=1000):
        write_text(path, path)
        set_time(path, seconds)
    runs = [entry("init", [DATA], INIT), entry("dense", [DATA, INIT], NET)]
    for stage, jobs in (("runs", runs), ("analysis", [entry("psp", [NET], TABLE)])):
        write_json(found.record(stage), {"format": 1, "jobs": jobs})
    Path(DATA).unlink()
    return found


@pytest.mark.slow
def test_pulled_files_get_their_notes_and_an_order(layout: Layout) -> None:
    assert adopt(layout) == 3
    assert time_of(INIT) <= time_of(NET) <= time_of(TABLE)
    note = Notes().read(NET)
    assert note is not None
    assert (note["rule"], note["params"], note["input"]) == ("dense", ["'dense settings'"], [DATA, INIT])
    assert note["endtime"] == pytest.approx(time_of(NET), abs=1e-6)
    before = {path: time_of(path) for path in (INIT, NET, TABLE)}
    assert adopt(layout) == 0
    assert {path: time_of(path) for path in before} == before


def test_files_that_nobody_has_noted_are_named(layout: Layout) -> None:
    net, table = (layout.stage_jobs(stage)[-1].outputs[0] for stage in STAGES)
    for path in (net, table):
        write_text(path, path)
    said = unnoted(layout)
    assert said is not None
    assert f"{net} and 1 more: there is no note of what made them (.snakemake was removed" in said
    made = {"rule": "dense", "input": [], "params": [], "code": "", "shellcmd": ""}
    Notes().write(net, made, {}, Path(net).stat().st_mtime_ns)
    said = unnoted(layout)
    assert said is not None
    assert said.startswith(f"{table}: there is no note")
    Path(table).unlink()
    assert unnoted(layout) is None


def test_data_made_later_do_not_outdate_what_was_made_from_the_same(layout: Layout) -> None:
    adopt(layout)
    before = {path: time_of(path) for path in (INIT, NET, TABLE)}
    write_text(DATA, DATA)
    set_time(DATA, 5000)
    adopt(layout)
    assert time_of(DATA) <= min(before.values())
    assert {path: time_of(path) for path in before} == before


def test_other_data_outdate_what_was_made_from_them(layout: Layout) -> None:
    adopt(layout)
    write_text(DATA, "another split")
    adopt(layout)
    assert time_of(DATA) > time_of(INIT)
    assert time_of(DATA) > time_of(NET)


def test_a_file_of_the_users_own_is_left_alone_and_outdates_what_came_from_another(layout: Layout) -> None:
    write_text(NET, "trained otherwise")
    set_time(NET, 900)
    assert adopt(layout) == 2
    assert time_of(NET) == 900
    assert Notes().read(NET) is None
    assert time_of(TABLE) < time_of(NET)


def test_a_file_made_here_to_the_same_bytes_from_edited_code_stays_made(layout: Layout) -> None:
    """Else it would be made again and again, and could never be recorded."""
    adopt(layout)
    record, later = layout.record("analysis"), Path(layout.record("analysis")).stat().st_mtime + 10
    write_text(INIT, "another W0")
    os.utime(INIT, (later, later))
    os.utime(NET, (later + 1, later + 1))
    made = {"rule": "dense", "input": [DATA, INIT], "params": ["'dense settings'"], "code": "sharpminima dense"}
    Notes().write(NET, made | {"shellcmd": ""}, {INIT: sha256_file(INIT)}, Path(NET).stat().st_mtime_ns)
    assert adopt(layout) == 0
    assert time_of(NET) > time_of(INIT) > Path(record).stat().st_mtime


def test_a_file_brought_back_gets_its_time_back(layout: Layout) -> None:
    adopt(layout)
    before = time_of(INIT)
    Path(INIT).unlink()
    assert adopt(layout) == 0
    write_text(INIT, INIT)
    assert time_of(INIT) > before
    adopt(layout)
    assert time_of(INIT) == before


@pytest.mark.parametrize(("made_at", "params"), [(1500, "'dense settings'"), (2500, "'another recipe'")])
def test_the_later_of_record_and_note_counts_for_equal_bytes(layout: Layout, made_at: int, params: str) -> None:
    """Settings may change without changing the bytes: of a file made here since, the note is right."""
    adopt(layout)
    for stage in STAGES:
        set_time(layout.record(stage), 2000)
    set_time(NET, made_at)
    made = {"rule": "dense", "input": [INIT], "params": ["'another recipe'"], "code": "", "shellcmd": ""}
    Notes().write(NET, made, {}, made_at * SECOND)
    adopt(layout)
    assert Notes().read(NET)["params"] == [params]
    assert time_of(NET) == made_at


def test_nothing_is_touched_while_snakemake_is_at_work(layout: Layout) -> None:
    write_text(".snakemake/locks/0.output.lock", TABLE)
    assert adopt(layout) == 0
    assert time_of(TABLE) == 1000


def test_a_record_of_another_format_is_refused(layout: Layout) -> None:
    write_json(layout.record("runs"), {"format": 2, "jobs": []})
    with pytest.raises(SharpminimaError, match=r"record\.json: has format 2, this version reads 1"):
        adopt(layout)


def test_hashes_follow_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("a", "one")
    known = Known()
    first = known.sha256("a")
    assert (first, known.sha256("none")) == (sha256_file("a"), None)
    known.save()
    write_text("a", "two")
    assert Known().sha256("a") == sha256_file("a") != first


def test_data_are_asked_for_where_making_them_would_outdate_everything(layout: Layout) -> None:
    rules = {"prepare", "init", "dense"}
    assert "-- data` first" in str(data_to_make_first(layout, rules))
    assert data_to_make_first(layout, {"prepare", "data"}) is None
    assert data_to_make_first(layout, {"fig1"}) is None
    Path(layout.record("runs")).unlink()
    assert data_to_make_first(layout, rules) is None
