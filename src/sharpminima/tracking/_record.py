"""The record of a tracked folder: which job made each file, from what, with which settings."""

from pathlib import Path

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import read_json, sha256_file, write_json
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.study.jobs import Layout
from sharpminima.tracking._known import Known
from sharpminima.tracking._notes import TIME_TOLERANCE_S, Made, Notes

FORMAT = 1


class Entry(Made):
    """A job of a record."""

    inputs: dict[str, str]  # path -> SHA-256
    outputs: dict[str, str | None]


def write_settings(layout: Layout, stage: str) -> None:
    """Write all settings on which the files of a stage depend: what DVC compares to know whether it is up to date."""
    names = {"device", "threads"} | ({"compaction", "replica_strategy"} if stage == "runs" else set())
    write_json(
        layout.settings(stage),
        {
            "data": {
                name: {"raw_sha256": dict(DATASETS[name].raw_sha256), **layout.study.data.model_dump(mode="json")}
                for name in layout.datasets()
            },
            "jobs": [
                {"rule": job.rule, "outputs": list(job.outputs), "settings": job.settings}
                for job in layout.stage_jobs(stage)
            ],
            "runtime": layout.config.model_dump(mode="json", include=names),
        },
    )


def read_record(layout: Layout, stage: str) -> list[Entry]:
    """The entries of a stage's record, each after those whose files it reads; empty where there is no record.

    Raises:
        SharpminimaError: the record has another format, or is damaged.
    """
    path = Path(layout.record(stage))
    if not path.is_file():
        return []
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("jobs", []), list):
        raise SharpminimaError(
            f"{path}: is no record of a stage; `dvc pull --force {path}` brings it back, or remove it"
        )
    if record.get("format") != FORMAT:
        raise SharpminimaError(
            f"{path}: has format {record.get('format')}, this version reads {FORMAT}; use the release that wrote it, "
            "or remove it, and `make track` writes it again from Snakemake's notes"
        )
    return list(record["jobs"])


def write_record(layout: Layout, stage: str, *, finished: bool = False) -> int:
    """Write the record of a stage after Snakemake has made its files; returns the number of jobs in it.

    Args:
        finished: leave out jobs without their files; without it they are an error.

    Raises:
        SharpminimaError: a file is missing, or was not made by Snakemake as it is now.
        CheckpointError: a checkpoint is damaged.
    """
    notes, known = Notes(), Known()
    before = read_record(layout, stage)
    inputs_before = {path: digest for entry in before for path, digest in entry["inputs"].items()}
    entries: list[Entry] = []
    check_files(layout, stage, notes)
    for job in layout.stage_jobs(stage):
        missing = [path for path in job.outputs if not Path(path).is_file()]
        if missing and finished:
            continue
        if missing:
            raise _missing(layout, missing[0])
        note = notes.read(job.outputs[0])
        if note is None:
            raise SharpminimaError(f"{job.outputs[0]}: Snakemake has no note of making it; remove it and run snakemake")
        entries.append(
            {
                "inputs": {path: _input_sha256(layout, path, known, inputs_before) for path in note["input"]},
                "outputs": {path: known.sha256(path) for path in job.outputs},
                "rule": note["rule"],
                "params": note["params"],
                "input": note["input"],
                "code": note["code"],
                "shellcmd": note["shellcmd"],
            }
        )
    if entries:  # else there is no folder to track
        write_json(layout.record(stage), {"format": FORMAT, "jobs": entries})
    known.save()
    return len(entries)


def _input_sha256(layout: Layout, path: str, known: Known, before: dict[str, str]) -> str:
    digest = known.sha256(path) or before.get(path)  # prepared data that no job needed are not there
    if digest is None:
        raise _missing(layout, path)
    return digest


def _missing(layout: Layout, path: str) -> SharpminimaError:
    # Named as a target: Snakemake does without a file where all that is made from it is there.
    command = f"snakemake --cores all --config study={layout.config.study} -- {path}"
    return SharpminimaError(f"{path}: is missing; `{command}` makes it")


def check_files(layout: Layout, stage: str, notes: Notes) -> None:
    """Refuse a file that differs from its record although no job has made it so: damaged, or changed by hand.

    Raises:
        SharpminimaError: there is such a file.
        CheckpointError: such a file is a checkpoint, and is damaged.
    """
    recorded = {path: digest for entry in read_record(layout, stage) for path, digest in entry["outputs"].items()}
    for job in layout.stage_jobs(stage):
        for path in job.outputs:
            if not Path(path).is_file() or sha256_file(path) == recorded.get(path):
                continue
            if path.endswith(".safetensors"):
                from sharpminima.nets.checkpoint import load_checkpoint  # torch, which Snakemake can do without

                load_checkpoint(path)
            elif fault := _fault(path, notes):
                raise SharpminimaError(
                    f"{path}: {fault}; `dvc pull --force {path}` brings back what DVC tracks, or remove it, "
                    "so that it is made again"
                )


def _fault(path: str, notes: Notes) -> str | None:
    note = notes.read(path)
    if note is None:
        return "Snakemake has no note of making it"
    if abs(Path(path).stat().st_mtime - note["endtime"]) > TIME_TOLERANCE_S:
        return "was changed or damaged after it was made"
    return None
