"""profiles/generic/status reads what the queueing systems answer; here their commands only print it."""

import os
import subprocess
from pathlib import Path

import pytest

from .cases import ROOT

PBS = "Job Id: 7.head\n    Job_Name = sharpminima\n    job_state = {}\n    queue = workq\n"
SGE = "qname        gpu.q\njobnumber    7\nfailed       {}\nexit_status  {}\n"
UNKNOWN = ("exit 1", "")


def status(folder: Path, system: str, **commands: tuple[str, str]) -> str:
    """Ask for job 7; each command ends by the given line of shell after it has printed its text."""
    for name, (ending, text) in commands.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n{ending}\n")
        program.chmod(0o755)
    done = subprocess.run(
        [ROOT / "profiles/generic/status", system, "7"],
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", "running"),
        ("COMPLETING", "running"),
        ("COMPLETED", "success"),
        ("CANCELLED", "failed"),
        ("TIMEOUT", "failed"),
        ("OUT_OF_MEMORY", "failed"),
        ("NODE_FAIL", "failed"),
        ("PREEMPTED", "failed"),
    ],
)
def test_slurm(tmp_path: Path, state: str, expected: str) -> None:
    line = f"JobId=7 JobName=sharpminima JobState={state} Reason=None Requeue=1"
    assert status(tmp_path, "slurm", scontrol=("exit 0", line)) == expected


@pytest.mark.parametrize(
    ("accounting", "expected"),
    [
        (("exit 0", " COMPLETED "), "success"),
        (("exit 0", "CANCELLED by 0 "), "failed"),
        (("exit 1", "Slurm accounting storage is disabled"), "failed"),
    ],
)
def test_slurm_after_it_has_forgotten_the_job(tmp_path: Path, accounting: tuple[str, str], expected: str) -> None:
    gone = ("exit 1", "slurm_load_jobs error: Invalid job id specified")
    assert status(tmp_path, "slurm", scontrol=gone, sacct=accounting) == expected


def test_slurm_out_of_reach_is_asked_again(tmp_path: Path) -> None:
    error = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    assert status(tmp_path, "slurm", scontrol=("exit 1", error)) == "running"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (PBS.format("Q"), "running"),
        (PBS.format("R"), "running"),
        (PBS.format("F") + "    Exit_status = 0\n", "success"),
        (PBS.format("F") + "    Exit_status = 271\n", "failed"),
        (PBS.format("F"), "failed"),
        ("qstat: Unknown Job Id 7.head", "failed"),
        ("qstat: cannot connect to server head (errno=111)", "running"),
    ],
)
def test_pbs(tmp_path: Path, answer: str, expected: str) -> None:
    assert status(tmp_path, "pbs", qstat=("exit 0", answer)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [(PBS.format("R"), "running"), ("qstat: Unknown Job Id 7.head", "success")]
)
def test_pbs_without_a_history_of_jobs_leaves_the_end_to_what_snakemake_finds(
    tmp_path: Path, answer: str, expected: str
) -> None:
    refused = "qstat: PBS is not configured to maintain job history"
    by_option = 'cat "$(dirname "$0")/$1"; exit 0\n'
    for option, text in (("-x", refused), ("-f", answer)):
        (tmp_path / option).write_text(text)
    assert status(tmp_path, "pbs", qstat=(by_option, "")) == expected


@pytest.mark.parametrize(
    ("queued", "accounting", "expected"),
    [
        (("exit 0", "job_number: 7"), UNKNOWN, "running"),
        (UNKNOWN, UNKNOWN, "running"),
        (UNKNOWN, ("exit 0", SGE.format(0, 0)), "success"),
        (UNKNOWN, ("exit 0", SGE.format(0, 143)), "failed"),
        (UNKNOWN, ("exit 0", SGE.format("100 : assumedly after job", 0)), "failed"),
    ],
)
def test_grid_engine(tmp_path: Path, queued: tuple[str, str], accounting: tuple[str, str], expected: str) -> None:
    assert status(tmp_path, "sge", qstat=queued, qacct=accounting) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("PEND", "running"),
        ("RUN", "running"),
        ("DONE", "success"),
        ("EXIT", "failed"),
        ("Job <7> is not found", "failed"),
    ],
)
def test_lsf(tmp_path: Path, answer: str, expected: str) -> None:
    assert status(tmp_path, "lsf", bjobs=("exit 0", answer)) == expected


def test_of_lsfs_answer_only_the_number_is_left(tmp_path: Path) -> None:
    program = tmp_path / "bsub"
    program.write_text('#!/bin/sh\n[ "$1" = -n ] && echo "Job <7> is submitted to default queue <normal>."\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    line = [ROOT / "profiles/generic/bsub", "-n", "1", "script"]
    assert subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout == "7\n"


@pytest.mark.parametrize(("gpus", "left"), [(0, "-n|1|-M|2 GB|script|"), (1, "-n|1|-gpu|num=1|-M|2 GB|script|")])
def test_lsf_is_not_asked_for_no_gpu(tmp_path: Path, gpus: int, left: str) -> None:
    program = tmp_path / "bsub"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@" >"$(dirname "$0")/asked"; echo "Job <7> is submitted"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    line = [ROOT / "profiles/generic/bsub", "-n", "1", "-gpu", f"num={gpus}", "-M", "2 GB", "script"]
    subprocess.run(line, env=environment, capture_output=True, check=True)
    assert (tmp_path / "asked").read_text() == left
