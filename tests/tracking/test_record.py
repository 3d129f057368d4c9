"""The record of a stage: from Snakemake's notes, refused where a file is not what they say."""

import shutil
from pathlib import Path

import pytest

from sharpminima.base.errors import CheckpointError, SharpminimaError
from sharpminima.base.files import read_json, sha256_file, write_json, write_text
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.tracking import adopt, track_finished, write_record, write_settings
from sharpminima.tracking._notes import Notes
from sharpminima.tracking._record import read_record


@pytest.fixture
def noted(synthetic: Layout) -> Layout:
    """The finished study, with data and with Snakemake's notes on every file."""
    for dataset in synthetic.datasets():
        write_text(synthetic.prepared(dataset), f"images of {dataset}")
    notes = Notes()
    for stage in STAGES:
        for job in synthetic.stage_jobs(stage):
            made = {"rule": job.rule, "params": [], "input": sorted(job.inputs), "code": "", "shellcmd": job.rule}
            for path in job.outputs:
                notes.write(path, made, {}, Path(path).stat().st_mtime_ns)
    return synthetic


def test_a_record_holds_every_file_of_the_stage_with_its_inputs(noted: Layout) -> None:
    for stage in STAGES:
        write_record(noted, stage)
        entries = read_record(noted, stage)
        outputs = {path: digest for entry in entries for path, digest in entry["outputs"].items()}
        assert outputs == {path: sha256_file(path) for job in noted.stage_jobs(stage) for path in job.outputs}
        for entry in entries:
            assert entry["inputs"] == {path: sha256_file(path) for path in entry["input"]}
    before = Path(noted.record("runs")).read_bytes()
    write_record(noted, "runs")
    assert Path(noted.record("runs")).read_bytes() == before


def test_data_that_are_not_there_keep_their_hash(noted: Layout) -> None:
    data = Path(noted.prepared("digits"))
    digest = sha256_file(data)
    write_record(noted, "runs")
    data.unlink()
    write_record(noted, "runs")
    assert read_record(noted, "runs")[0]["inputs"] == {str(data): digest}
    Path(noted.record("runs")).unlink()
    with pytest.raises(
        SharpminimaError, match=r"digits\.safetensors: is missing; `snakemake .* -- .*digits\.safetensors` makes it"
    ):
        write_record(noted, "runs")


def test_a_file_that_snakemake_did_not_make_is_refused(noted: Layout) -> None:
    table = Path(noted.table("results"))
    write_record(noted, "analysis")
    content = table.read_text()
    table.write_text("better numbers")
    with pytest.raises(
        SharpminimaError, match=r"results\.csv: was changed or damaged after it was made; `dvc pull --force"
    ):
        write_record(noted, "analysis")
    table.write_text(content)
    write_record(noted, "analysis")  # the bytes of the record, whatever their time


def test_a_record_of_another_format_is_written_again_once_it_is_removed(noted: Layout) -> None:
    write_record(noted, "runs")
    record = Path(noted.record("runs"))
    entries = read_record(noted, "runs")
    write_json(record, {"format": 2, "jobs": []})
    for use in (lambda: adopt(noted), lambda: write_record(noted, "runs")):
        with pytest.raises(
            SharpminimaError, match=r"has format 2, this version reads 1; use the release .* or remove it"
        ):
            use()
    record.unlink()
    adopt(noted)
    write_record(noted, "runs")
    assert read_record(noted, "runs") == entries


def test_a_damaged_checkpoint_is_refused(noted: Layout) -> None:
    path = Path(noted.checkpoints()[0])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        write_record(noted, "runs")


def test_a_file_without_a_note_is_refused(synthetic: Layout) -> None:
    with pytest.raises(SharpminimaError, match="Snakemake has no note of making it"):
        write_record(synthetic, "runs")


def test_settings_hold_what_numbers_depend_on_and_no_place(synthetic: Layout, tmp_path: Path) -> None:
    for stage in STAGES:
        write_settings(synthetic, stage)
    runs, analysis = (read_json(synthetic.settings(stage)) for stage in STAGES)
    assert runs["runtime"].keys() == {"device", "threads", "compaction", "replica_strategy"}
    assert analysis["runtime"].keys() == {"device", "threads"}
    (prune,) = [job for job in runs["jobs"] if job["rule"] == "prune"]
    assert prune["settings"]["revision"] == 1
    assert prune["settings"]["lambda"] == 4e-3
    assert {job["rule"] for job in analysis["jobs"]} == {*ANALYSES, "table", "numbers"}
    assert list(runs["data"]["digits"]["raw_sha256"]) == ["sklearn.datasets.load_digits"]
    assert str(tmp_path) not in Path(synthetic.settings("runs")).read_text()


@pytest.mark.slow
def test_the_finished_jobs_of_a_study_under_way_are_kept(noted: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(Path("site").resolve()))
    Repo.init(no_scm=True).close()
    write_text("dvc.yaml", "vars: [{tracked: [demo]}]")
    *runs, last = noted.stage_jobs("runs")
    analyses = [job for job in noted.stage_jobs("analysis") if job.rule in ANALYSES]
    unfinished = [last, *(job for job in noted.stage_jobs("analysis") if job not in analyses)]
    for path in (path for job in unfinished for path in job.outputs):
        Path(path).unlink()
    for stage in STAGES:
        with pytest.raises(SharpminimaError, match="is missing; `snakemake"):
            write_record(noted, stage)

    remote = "remote = store\n['remote \"store\"']\nurl = ../store\n"
    write_text(".dvc/config", f"[core]\nno_scm = True\n{remote}")
    shutil.move(noted.analysis_folder, "aside")
    assert track_finished(noted) == (len(runs), ["results/tiny/runs.dvc"])
    shutil.move("aside", noted.analysis_folder)
    files = ["results/tiny/runs.dvc", "results/tiny/analysis.dvc"]
    assert track_finished(noted) == (len(runs) + len(analyses), files)
    kept = {path: sha256_file(path) for job in (*runs, *analyses) for path in job.outputs}
    assert {path for stage in STAGES for entry in read_record(noted, stage) for path in entry["outputs"]} == kept.keys()

    # What was recorded and is elsewhere is brought back, not dropped.
    moved = runs[0].outputs[0]
    Path(moved).unlink()
    assert track_finished(noted) == (len(runs) + len(analyses), files)
    assert sha256_file(moved) == kept[moved]

    # As in a clone: the files come back, and Snakemake takes them as made.
    for folder in (noted.runs_folder, noted.analysis_folder, ".snakemake", ".dvc/cache"):
        shutil.rmtree(folder)
    with Repo() as repo:
        repo.pull(files)
    assert {path: sha256_file(path) for path in kept} == kept
    assert adopt(noted) == len(kept)

    write_text("dvc.yaml", "vars: [{tracked: [tiny]}]")
    with pytest.raises(SharpminimaError, match=r"study tiny is in dvc\.yaml: `sharpminima track`"):
        track_finished(noted, push=False)
